"""Bugs that replication has had elsewhere, put into the cores one at a time: the model must find each.

A mutant breaks one rule while the rest stays as it is. None of them exists outside of this file.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from broker.replication import leader as leading
from broker.replication.divergence import ReplicaLog
from broker.replication.follower import FetchAnswer, FetchPosition, PartitionFollower, Stale, Step
from broker.replication.follower_progress import FollowerProgress
from broker.replication.leader import PartitionLeader
from broker.replication.undecided_changes import UndecidedChanges
from metadata import elections, partition_entries
from metadata.commands import PartitionChange
from metadata.image import Partition
from tests.broker.replication.model_broker import Cores, ModelBroker
from wire.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Mutant:
    """`breaks` puts the bug in for as long as its context lasts, and gives the cores to run with."""

    name: str
    breaks: Callable[[], AbstractContextManager[Cores]]
    seeds: range
    is_quick: bool
    """The first seeds find it, so that every run of the tests can look."""


MUTANTS: list[Mutant] = []
Breaks = Callable[[], Iterator[Cores]]


def mutant(breaks: Breaks) -> Breaks:
    """A generator that yields once; its name is the mutant's. Found within the first 40 seeds."""
    MUTANTS.append(Mutant(breaks.__name__, contextmanager(breaks), range(40), is_quick=True))
    return breaks


def well_hidden_mutant(breaks: Breaks) -> Breaks:
    """Other guards mask it nearly always: each has a directed test too (`test_leader_*.py`, `test_follower.py`)."""
    MUTANTS.append(Mutant(breaks.__name__, contextmanager(breaks), range(1_000), is_quick=False))
    return breaks


def mutant_of_relaxed_flushes(breaks: Breaks) -> Breaks:
    """Only every fourth seed relaxes the flushes."""
    MUTANTS.append(Mutant(breaks.__name__, contextmanager(breaks), range(3, 2_000, 4), is_quick=False))
    return breaks


def patched(*patches: tuple[object, str, object]) -> ExitStack:
    stack = ExitStack()
    for target, name, value in patches:
        stack.enter_context(patch.object(target, name, value))
    return stack


# ---- the leader


class RemembersAll(PartitionLeader):
    """Where a leader hears everybody anew after a change, these bugs hide."""

    def _forget_all_but(self, in_sync_replicas: tuple[int, ...]) -> None:
        pass


@mutant
def acknowledged_on_local_append() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def _advance(self) -> bool:
            moved = self._own_durable_end_offset > self.high_watermark
            self.high_watermark = max(self.high_watermark, self._own_durable_end_offset)
            return moved

    yield Cores(leader=Leader)


@mutant
def no_maximal_in_sync_replicas() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def _take_membership(self) -> None:
            self.maximal_in_sync_replicas = frozenset(self._state.in_sync_replicas)
            for broker_id in self._waited_for.keys() - (self._followers.keys() - self.maximal_in_sync_replicas):
                del self._waited_for[broker_id]

        def _wait_for(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> None:
            """Nobody is waited for who is not committed: else the bug is masked most of the time."""

    yield Cores(leader=Leader)


@well_hidden_mutant
def doubt_taken_for_a_refusal() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def change_in_doubt(self, *, partition_epoch: int) -> None:
            self.change_refused(ErrorCode.INELIGIBLE_REPLICA, partition_epoch=partition_epoch)

        def _wait_for(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> None:
            pass

    yield Cores(leader=Leader)


@well_hidden_mutant
def refusal_ends_earlier_doubts() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def change_refused(self, code: ErrorCode, *, partition_epoch: int) -> None:
            self._changes = UndecidedChanges()
            super().change_refused(code, partition_epoch=partition_epoch)

        def _wait_for(self, follower: FollowerProgress, leader_end_offset: int, now_ms: float) -> None:
            pass

    yield Cores(leader=Leader)


@mutant
def min_in_sync_ignored_at_the_watermark() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        @property
        def has_enough_in_sync(self) -> bool:
            return True

    yield Cores(leader=Leader)


@mutant
def no_epoch_start_check() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def _may_join(self, follower: FollowerProgress) -> bool:
            return follower.log_end_offset >= self.high_watermark and self._is_in_service(follower)

    yield Cores(leader=Leader)


@mutant
def no_watermark_check_at_a_join() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def _may_join(self, follower: FollowerProgress) -> bool:
            return follower.log_end_offset >= self._epoch_start_offset and self._is_in_service(follower)

    yield Cores(leader=Leader)


@mutant
def broker_epoch_of_the_image_for_joiners() -> Iterator[Cores]:
    """KIP-903 as it was: the leader vouches for a life that never fetched."""

    class Leader(RemembersAll):
        def _is_in_service(self, follower: FollowerProgress) -> bool:
            return follower.is_heard and self._epoch_in_service(follower.broker_id) is not None

        def _broker_epoch(self, broker_id: int) -> int:
            epoch = self._epoch_in_service(broker_id)
            return -1 if epoch is None else epoch

    yield Cores(leader=Leader)


@mutant
def no_divergence_check() -> Iterator[Cores]:
    never = {"return_value": False}
    with patch.object(leading, "parted_from", **never), patch.object(leading, "is_beyond_memory", **never):
        yield Cores()


@well_hidden_mutant
def no_check_at_the_log_start() -> Iterator[Cores]:
    with patch.object(leading, "is_beyond_memory", return_value=False):
        yield Cores()


# ---- the follower


@mutant
def truncation_by_watermark() -> Iterator[Cores]:
    """Before KIP-101."""
    take_role = ModelBroker._fetch

    def fetch(broker: ModelBroker, follower: PartitionFollower) -> None:
        if not hasattr(follower, "has_cut"):
            follower.has_cut = True
            if broker.log.high_watermark < broker.log.log_end_offset:
                broker.cluster.checkers.will_truncate(broker.broker_id, broker.log.high_watermark)
                broker.log.truncate_to(broker.log.high_watermark)
        take_role(broker, follower)

    class Follower(PartitionFollower):
        """One with a dictionary."""

    with patch.object(ModelBroker, "_fetch", fetch):
        yield Cores(follower=Follower)


@well_hidden_mutant
def stale_answer_applied() -> Iterator[Cores]:
    class Follower(PartitionFollower):
        def answered(self, asked: FetchPosition, answer: FetchAnswer, log: ReplicaLog) -> Step:
            if answer.diverging is not None:
                return self._diverged(answer.diverging, log)
            if asked.fetch_offset != log.log_end_offset:
                return Stale()  # the log itself refuses records that do not continue it
            self._in_flight = asked
            return super().answered(asked, answer, log)

    yield Cores(follower=Follower)


@mutant
def fetch_at_an_end_that_is_not_durable() -> Iterator[Cores]:
    class Durable:
        def __init__(self, log: ReplicaLog) -> None:
            self._log = log

        def __getattr__(self, name: str) -> object:
            return getattr(self._log, "log_end_offset" if name == "durable_end_offset" else name)

    class Follower(PartitionFollower):
        def fetch_position(self, log: ReplicaLog) -> FetchPosition | None:
            return super().fetch_position(Durable(log))

    yield Cores(follower=Follower)


@well_hidden_mutant
def phantom_epoch_sent() -> Iterator[Cores]:
    """The last epoch that this broker led, written in or not."""

    def last_epoch(log: ReplicaLog) -> int:
        latest = log.leader_epochs.latest
        return -1 if latest is None else latest

    with (
        patch("broker.replication.follower.last_record_epoch", last_epoch),
        patch.object(ModelBroker, "_show_watermark", _assigning(ModelBroker._show_watermark)),
    ):
        yield Cores()


def _assigning(show: Callable[[ModelBroker, PartitionLeader], None]) -> Callable[[ModelBroker, PartitionLeader], None]:
    def lead(broker: ModelBroker, leader: PartitionLeader) -> None:
        epochs = broker.log.leader_epochs
        if epochs.latest is None or epochs.latest < leader.leader_epoch:
            epochs.assign(leader.leader_epoch, broker.log.log_end_offset)
        show(broker, leader)

    return lead


# ---- the broker around them


@mutant
def reads_above_the_watermark() -> Iterator[Cores]:
    with patch.object(ModelBroker, "readable_end_offset", lambda broker: broker.log.log_end_offset):
        yield Cores()


@mutant
def no_fence_on_restart() -> Iterator[Cores]:
    start, stop = ModelBroker.start, ModelBroker.stop
    epochs: dict[int, int | None] = {}

    def remember(broker: ModelBroker) -> None:
        epochs[broker.broker_id] = broker.broker_epoch
        stop(broker)

    def go_on(broker: ModelBroker) -> None:
        start(broker)
        broker.broker_epoch = epochs.get(broker.broker_id)

    with patched((ModelBroker, "stop", remember), (ModelBroker, "start", go_on)):
        yield Cores()


# ---- the controller and the metadata log


@mutant
def unclean_elections() -> Iterator[Cores]:
    rules = elections.TopicRules.of

    def unclean(*of: object) -> elections.TopicRules:
        strict = rules(*of)
        return elections.TopicRules(
            min_in_sync_replicas=strict.min_in_sync_replicas,
            allows_unclean_election=True,
            counts_unsynced_offsets=strict.counts_unsynced_offsets,
        )

    with patch.object(elections.TopicRules, "of", unclean):
        yield Cores()


@mutant
def no_eligible_leader_replicas() -> Iterator[Cores]:
    with patch.object(elections, "_eligible", lambda *_: ()):
        yield Cores()


@mutant
def eligible_though_enough_are_in_sync() -> Iterator[Cores]:
    """The leader's own guard is off too: it moves no watermark while anybody is eligible."""

    def keep(partition: Partition, _in_sync: object, eligible: set[int], _rules: object) -> tuple[int, ...]:
        return tuple(r for r in partition.replicas if r in eligible)

    def needed(partition: Partition, min_in_sync_replicas: int) -> int:
        return min(min_in_sync_replicas, partition.assigned_count)

    with patched((elections, "_without_settled", keep), (Partition, "in_sync_replicas_needed", needed)):
        yield Cores()


@mutant_of_relaxed_flushes
def unclean_stop_stays_eligible() -> Iterator[Cores]:
    with patch.object(elections, "_stopped_uncleanly", lambda *_: False):
        yield Cores()


@well_hidden_mutant
def no_partition_epoch_compare_and_set() -> Iterator[Cores]:
    check = partition_entries._check_epochs

    def only_leader_epoch(current: Partition, one: PartitionChange) -> None:
        if one.expected_leader_epoch != current.leader_epoch:
            check(current, one)

    with patch.object(partition_entries, "_check_epochs", only_leader_epoch):
        yield Cores(leader=RemembersAll)


@mutant
def no_broker_epoch_check_at_a_join() -> Iterator[Cores]:
    with patch.object(partition_entries, "_check_joiner", lambda *_: None):
        yield Cores()


@well_hidden_mutant
def no_leader_epoch_check_on_a_fetch() -> Iterator[Cores]:
    class Leader(PartitionLeader):
        def check_leader_epoch(self, leader_epoch: int) -> None:
            pass

    yield Cores(leader=Leader)
