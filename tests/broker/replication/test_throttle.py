"""A replica that is being added is copied no faster than the operator said."""

from broker.replication.throttle import ReplicationThrottle


def test_without_a_limit_nothing_waits() -> None:
    throttle = ReplicationThrottle()
    throttle.spent(1 << 40)
    assert 0 == throttle.wait_s(0)


def test_a_debt_is_waited_off() -> None:
    throttle = ReplicationThrottle()
    throttle.limit(1000, now_s=100)
    assert 0 == throttle.wait_s(100)
    throttle.spent(5000)
    assert 5 == throttle.wait_s(100)
    assert 2 == throttle.wait_s(103)
    assert 0 == throttle.wait_s(105)


def test_over_a_long_time_the_rate_is_kept() -> None:
    throttle = ReplicationThrottle()
    throttle.limit(1000, now_s=0)
    now_s = fetched = 0.0
    while now_s < 1000:
        now_s += throttle.wait_s(now_s) or 0.01
        throttle.spent(700)
        fetched += 700
    assert 0.98 < fetched / 1_000_000 < 1.02


def test_a_pause_saves_up_no_more_than_a_second() -> None:
    throttle = ReplicationThrottle()
    throttle.limit(1000, now_s=0)
    assert 0 == throttle.wait_s(3600)
    throttle.spent(3000)
    assert 2 == throttle.wait_s(3600)


def test_a_new_limit_forgives_the_debt_of_the_old_one() -> None:
    throttle = ReplicationThrottle()
    assert throttle.limit(1, now_s=0)
    throttle.spent(1_000_000)
    assert throttle.limit(None, now_s=1)
    assert 0 == throttle.wait_s(1)
    assert not throttle.limit(None, now_s=2)


def test_the_partitions_of_one_fetch_bring_about_a_seconds_worth_together() -> None:
    throttle = ReplicationThrottle()
    assert throttle.bite_bytes(3) > 1 << 30
    throttle.limit(30_000, now_s=0)
    assert 30_000 == throttle.bite_bytes(1)
    assert 10_000 == throttle.bite_bytes(3)
    assert 1 == throttle.bite_bytes(100_000)
