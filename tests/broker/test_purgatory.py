"""An answer in waiting is given once: when its offset is reached, when waiting is pointless, or at its deadline."""

from hypothesis import given
from hypothesis import strategies as st

from broker.purgatory import SWEEP_WAITERS_MIN, Completion, Outcome, Purgatory


class Asker:
    """Waits, and remembers every answer it was given."""

    def __init__(self, purgatory: Purgatory, key: str, threshold: int, *, deadline_ms: float = 1000) -> None:
        self.answers: list[Completion] = []
        self.waiter = purgatory.wait(key, threshold, deadline_ms=deadline_ms, complete=self.answers.append)


def test_an_answer_leaves_when_its_offset_is_reached_and_not_before() -> None:
    purgatory = Purgatory()
    asker = Asker(purgatory, "pay-0", 10)
    purgatory.advanced("pay-0", 9)
    purgatory.advanced("pay-1", 99)
    assert [] == asker.answers
    purgatory.advanced("pay-0", 10)
    assert [Outcome.REACHED] == asker.answers


def test_answers_of_one_partition_leave_in_the_order_of_their_offsets() -> None:
    purgatory = Purgatory()
    order: list[int] = []
    for threshold in (3, 1, 2):
        purgatory.wait("pay-0", threshold, deadline_ms=1, complete=lambda _, t=threshold: order.append(t))
    purgatory.advanced("pay-0", 5)
    assert [1, 2, 3] == order


def test_lost_leadership_tells_everyone_of_that_partition_and_nobody_else() -> None:
    purgatory = Purgatory()
    mine, other = Asker(purgatory, "pay-0", 10), Asker(purgatory, "pay-1", 10)
    lost = RuntimeError("leadership lost")
    purgatory.failed("pay-0", lost)
    purgatory.advanced("pay-0", 10)
    assert [lost] == mine.answers
    assert [] == other.answers


def test_a_deadline_ends_the_waiting_once_even_when_the_offset_comes_later() -> None:
    purgatory = Purgatory()
    asker = Asker(purgatory, "pay-0", 10, deadline_ms=50)
    assert 50 == purgatory.next_deadline_ms
    purgatory.expire(49)
    assert [] == asker.answers
    purgatory.expire(50)
    purgatory.advanced("pay-0", 10)
    assert [Outcome.EXPIRED] == asker.answers
    assert purgatory.next_deadline_ms is None
    assert 0 == len(purgatory)


def test_whoever_went_away_is_told_nothing() -> None:
    purgatory = Purgatory()
    asker = Asker(purgatory, "pay-0", 10)
    purgatory.cancel(asker.waiter)
    purgatory.advanced("pay-0", 10)
    purgatory.expire(2000)
    assert [] == asker.answers


def test_answered_waiters_do_not_pile_up_behind_a_far_deadline() -> None:
    purgatory = Purgatory()
    for offset in range(10 * SWEEP_WAITERS_MIN):
        Asker(purgatory, "pay-0", offset, deadline_ms=1e9)
        purgatory.advanced("pay-0", offset)
    assert len(purgatory._by_deadline) <= 2 * SWEEP_WAITERS_MIN


def test_those_who_went_away_do_not_pile_up_where_nothing_ever_happens() -> None:
    purgatory = Purgatory()
    for number in range(10 * SWEEP_WAITERS_MIN):
        purgatory.cancel(Asker(purgatory, f"idle-{number % 7}", 1, deadline_ms=1e9).waiter)
    assert sum(map(len, purgatory._by_key.values())) <= SWEEP_WAITERS_MIN
    assert len(purgatory._by_deadline) <= 2 * SWEEP_WAITERS_MIN


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 3), st.integers(0, 20), st.integers(0, 50)),
        st.tuples(st.just("advanced"), st.integers(0, 3), st.integers(0, 20)),
        st.tuples(st.just("failed"), st.integers(0, 3)),
        st.tuples(st.just("expire"), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(STEPS)
def test_everyone_is_answered_exactly_once_in_any_history(steps: list[tuple[object, ...]]) -> None:
    purgatory = Purgatory()
    askers: list[Asker] = []
    for step in steps:
        match step:
            case ("wait", key, threshold, deadline):
                askers.append(Asker(purgatory, str(key), int(threshold), deadline_ms=float(deadline)))
            case ("advanced", key, value):
                purgatory.advanced(str(key), int(value))
            case ("failed", key):
                purgatory.failed(str(key), RuntimeError("lost"))
            case ("expire", now):
                purgatory.expire(float(now))
        assert all(len(asker.answers) <= 1 for asker in askers)
    purgatory.expire(1e9)
    assert all(1 == len(asker.answers) for asker in askers)
    assert 0 == len(purgatory)


def test_whoever_watches_hears_every_step_and_the_end_of_a_leadership_until_it_goes() -> None:
    purgatory = Purgatory()
    heard: list[str] = []

    def changed() -> None:
        heard.append("step")

    purgatory.watch("pay-0", changed)
    purgatory.watch("pay-0", changed)
    purgatory.advanced("pay-0", 1)
    purgatory.advanced("pay-1", 1)
    purgatory.failed("pay-0", RuntimeError("leadership lost"))
    assert ["step", "step"] == heard
    purgatory.unwatch("pay-0", changed)
    purgatory.unwatch("pay-0", changed)
    purgatory.advanced("pay-0", 2)
    assert ["step", "step"] == heard
