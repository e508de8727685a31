"""What the kernel is told of a weather, word for word: every table is applied as one, and nothing outlives its end."""

from tests.faults.packet_rules import Weather, connections, hearing, speed

ADDRESSES = {1: "10.0.0.1", 2: "10.0.0.2", 3: "10.0.0.3"}


def rules(weather: Weather, node_id: int) -> list[str]:
    return [line for line in hearing(weather, node_id, ADDRESSES).splitlines() if line.endswith("drop")]


def test_in_clear_weather_nothing_is_dropped_and_the_bucket_is_gone():
    assert [] == rules(Weather(), 1)
    assert ["qdisc", "del", "dev", "peers", "root"] == speed(Weather())


def test_a_table_replaces_the_one_before_in_one_step():
    lines = hearing(Weather(loss=0.1), 1, ADDRESSES).splitlines()
    assert ["table ip faults", "delete table ip faults", "table ip faults {"] == lines[:3]


def test_a_cut_is_heard_by_its_target_only():
    weather = Weather(cut=frozenset({(1, 2), (3, 2), (2, 3)}))
    assert [] == rules(weather, 1)
    assert ['iifname "peers" ip saddr { 10.0.0.1, 10.0.0.3 } drop'] == rules(weather, 2)
    assert ['iifname "peers" ip saddr { 10.0.0.2 } drop'] == rules(weather, 3)


def test_a_share_of_what_peers_send_is_lost_never_what_clients_do():
    (rule,) = rules(Weather(loss=0.3), 1)
    assert rule.startswith('iifname "peers" ')
    assert rule.endswith("numgen random mod 10000 <= 2999 drop")
    assert rules(Weather(loss=1.0), 1)[0].endswith("<= 9999 drop")


def test_without_a_rate_a_full_queue_adds_the_delay():
    told = speed(Weather(delay_s=0.1))
    queue_bytes, bits = int(told[told.index("limit") + 1]), int(told[told.index("rate") + 1].removesuffix("bit"))
    assert 0.1 == round(8 * queue_bytes / bits, 3)


def test_with_a_rate_the_queue_is_as_long_as_the_delay():
    told = speed(Weather(delay_s=0.3, bytes_per_s=500_000))
    assert "4000000bit" == told[told.index("rate") + 1]
    assert "150000" == told[told.index("limit") + 1]


def test_connections_are_named_by_the_end_that_was_opened():
    assert "dst 10.0.0.2 and ( dport = :80 or dport = :90 )" == " ".join(
        connections([90, 80], port_of="dport", other="10.0.0.2")
    )
