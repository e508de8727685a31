"""Bugs that replicated logs have had, put into the real nodes one at a time: the simulator must find each.

The list is that of the reliability page, and some that lie around the cores. A mutant breaks one rule for as long as
its context lasts and leaves the rest as it is; none exists outside of test code. Those of the cores are shared with the
model cluster (`tests/broker/replication/model_mutants.py`), where the same bugs cost milliseconds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch
from uuid import UUID
from weakref import WeakKeyDictionary

from broker.errors import OutcomeUnknownError
from broker.heartbeats import Heartbeats
from broker.replication.fetcher import LeaderFetcher
from broker.replication.fetchers import Fetchers
from broker.replication.replica import Fetched, Replica
from logstore.checkpoints import RecoveryPoint
from logstore.disk import Disk
from logstore.flusher import LogSync
from logstore.log_producers import LogProducers
from logstore.log_reader import ReadRequest
from logstore.partition_log import PartitionLog
from logstore.producer_state import ProducerState
from logstore.recovery import Recovery
from logstore.storage import Bytes, Storage, parent_directory, write_fully
from metadata.image import Image, Partition, Topic
from tests.broker.replication import model_mutants
from tests.simulation.machine import Clock
from tests.simulation.quorum import SimulatedQuorum
from tests.simulation.run import Found, run
from tests.simulation.watch import TOPIC
from wire.errors import ErrorCode, RefusedError

PAGE_BUDGET = 60
"""Seeds within which a bug of the reliability page is to be found."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`what` in the words of the reliability page. `killed_by` names what may be found broken because of it: whatever
    else is found is something else, and has to be looked at. `is_masked`: by other guards of whole nodes, as far as it
    was tried, so that it is left to the model cluster's long test and to the scenario tests of its room.
    """

    name: str
    what: str
    breaks: Callable[[], AbstractContextManager[None]]
    killed_by: frozenset[str]
    seeds: int = PAGE_BUDGET
    only_clocks: bool = False
    is_masked: bool = False


MUTANTS: list[Mutant] = []


def mutant(
    what: str, *killed_by: str, only_clocks: bool = False, is_masked: bool = False
) -> Callable[[Callable[[], Iterator[None]]], None]:
    """A generator that yields once; its name is the mutant's."""

    def add(breaks: Callable[[], Iterator[None]]) -> None:
        one = Mutant(breaks.__name__, what, contextmanager(breaks), frozenset(killed_by))
        MUTANTS.append(replace(one, only_clocks=only_clocks, is_masked=is_masked))

    return add


def core_mutant(name: str, what: str, *killed_by: str, is_masked: bool = False) -> None:
    """One of the model cluster's, in real nodes."""
    (of_cores,) = (one for one in model_mutants.MUTANTS if one.name == name)

    @contextmanager
    def breaks() -> Iterator[None]:
        with (
            of_cores.breaks() as cores,
            patch("broker.replication.replica.PartitionLeader", cores.leader),
            patch("broker.replication.fetchers.PartitionFollower", cores.follower),
        ):
            yield

    MUTANTS.append(Mutant(name, what, breaks, frozenset(killed_by), is_masked=is_masked))


# ---- of the reliability page

core_mutant("acknowledged_on_local_append", "ack on local append", "S2")


@mutant("reads ignoring the high watermark", "S12")
def reads_above_the_watermark() -> Iterator[None]:
    def fetch_now(replica: Replica, offset: int, *, max_bytes: int, at_least_one: bool = True, **_: Any) -> Fetched:
        replica._require_leader()
        return replica._read(offset, max_bytes, upper_offset=replica.log.log_end_offset, at_least_one=at_least_one)

    with patch.object(Replica, "fetch_now", fetch_now):
        yield


core_mutant("no_divergence_check", "no truncation", "S3", "S6", "L1")


@mutant("truncation by high watermark", "S5")
def truncation_by_watermark() -> Iterator[None]:
    """Before KIP-101: who begins to follow cuts what it does not know to be committed."""
    follow = Fetchers.follow

    def cut_and_follow(fetchers: Fetchers, replica: Replica, state: Partition, leader: Any) -> None:
        known = fetchers._followed.get(replica.key)
        if known is None or known.core.leader_epoch != state.leader_epoch:
            replica.truncate_to(min(replica.log.high_watermark, replica.log.log_end_offset))
        follow(fetchers, replica, state, leader)

    with patch.object(Fetchers, "follow", cut_and_follow):
        yield


core_mutant("no_maximal_in_sync_replicas", "no maximal ISR", "S2", "S3", "S8")
core_mutant("unclean_elections", "unclean election", "S1")


@mutant("no fence on restart", "S10", "S13", "AssertionError")
def an_old_life_goes_on() -> Iterator[None]:
    """S10: a restarted process leads on in the leader epoch of its last life, without what that had not synced."""
    registered = Heartbeats._register

    async def register(heartbeats: Heartbeats) -> None:
        mine = heartbeats._image().brokers.get(heartbeats._registration.broker_id)
        if mine is None:
            await registered(heartbeats)
        else:
            heartbeats.broker_epoch = mine.epoch
            heartbeats._on_registered(mine.epoch)

    with patch.object(Heartbeats, "_register", register):
        yield


core_mutant("min_in_sync_ignored_at_the_watermark", "min ISR ignored at the watermark", "S2")
core_mutant("no_eligible_leader_replicas", "no ELR", "L1")
core_mutant("stale_answer_applied", "stale fetch response applied", "S11", is_masked=True)
core_mutant("no_partition_epoch_compare_and_set", "no partition-epoch compare-and-set", "S9")
core_mutant("no_broker_epoch_check_at_a_join", "no broker-epoch check", "S9")
core_mutant("broker_epoch_of_the_image_for_joiners", "no broker-epoch check (at the leader: KIP-903)", "S8", "S9")
core_mutant("no_epoch_start_check", "no epoch-start check", "S8")
core_mutant("no_watermark_check_at_a_join", "no high-watermark check at a join", "S8")
core_mutant("no_leader_epoch_check_on_a_fetch", "no leader-epoch check on fetch", "S7")

# ---- around the cores


@mutant("what was written counts as durable", "S2", "S3")
def counted_before_the_sync() -> Iterator[None]:
    with patch.object(PartitionLog, "durable_end_offset", property(lambda log: log.log_end_offset, lambda *_: None)):
        yield


@mutant("a follower fetches on before its disk has what it was given", "S2", "S3", "S8")
def followers_fetch_before_their_sync() -> Iterator[None]:
    take = LeaderFetcher._take

    def take_as_durable(fetcher: LeaderFetcher, followed: Any, data: Any) -> Any:
        step = take(fetcher, followed, data)
        fetcher._unsynced.clear()
        log = followed.replica.log
        log.durable_end_offset = log.log_end_offset
        return step

    with patch.object(LeaderFetcher, "_take", take_as_durable):
        yield


@mutant("every answer to a fetch is applied when the next has come", "S11")
def answers_are_applied_late() -> Iterator[None]:
    apply = LeaderFetcher._apply
    answers: WeakKeyDictionary[LeaderFetcher, Any] = WeakKeyDictionary()

    async def apply_the_one_before(fetcher: LeaderFetcher, answer: Any) -> None:
        before = answers.get(fetcher, answer)
        answers[fetcher] = answer
        await apply(fetcher, before)

    with patch.object(LeaderFetcher, "_apply", apply_the_one_before):
        yield


@mutant("an unknown outcome is called a failure", "S15")
def unknown_is_called_a_failure() -> Iterator[None]:
    def refuse(replica: Replica, *_: Any, **__: Any) -> OutcomeUnknownError:
        return OutcomeUnknownError(ErrorCode.NOT_ENOUGH_REPLICAS, replica.name)

    with patch.object(Replica, "not_yet_safe", refuse):
        yield


@mutant("a retry is a new write", "S13", "S14")
def sequences_are_not_checked() -> Iterator[None]:
    with patch.object(ProducerState, "check", lambda *_: None):
        yield


@mutant("a deleted topic's id stands for whichever topic has its name", "S17")
def deleted_topics_go_by_name() -> Iterator[None]:
    def by_name(image: Image, topic_id: UUID) -> Topic:
        topic = image.topics.get(topic_id) or image.topic(TOPIC)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_ID, str(topic_id))
        return topic

    with patch("api.kafka.led_replicas.topic_of", by_name):
        yield


# ---- disks


@mutant("a sync makes durable what came while it ran", "S3")
def syncs_cover_what_came_meanwhile() -> Iterator[None]:
    finish_sync = PartitionLog.finish_sync

    def finish(log: PartitionLog, sync: LogSync) -> None:
        if (active := log.segments.active) is not None and sync.generation == log.generation:
            sync.point = RecoveryPoint(log.log_end_offset, active.base_offset, active.size_bytes)
        finish_sync(log, sync)

    with patch.object(PartitionLog, "finish_sync", finish):
        yield


@mutant("the log begins, after a restart, where its last checkpoint saw the watermark", "S1")
def a_restart_forgets_what_was_committed() -> Iterator[None]:
    lines = PartitionLog.checkpoint_lines

    def checkpoint_lines(log: PartitionLog, *args: Any) -> Any:
        before, log.log_start_offset = log.log_start_offset, log.high_watermark
        try:
            return lines(log, *args)
        finally:
            log.log_start_offset = before

    with patch.object(PartitionLog, "checkpoint_lines", checkpoint_lines):
        yield


@mutant("followers delete what they know to be committed", "S1")
def followers_delete_what_is_committed() -> Iterator[None]:
    committed = LeaderFetcher._committed

    def delete(fetcher: LeaderFetcher, followed: Any, step: Any) -> None:
        committed(fetcher, followed, step)
        log = followed.replica.log
        log.delete_records_before(log.high_watermark)

    with patch.object(LeaderFetcher, "_committed", delete):
        yield


@mutant("recovery takes damage for a torn tail and cuts what lies behind it", "S18")
def recovery_cuts_though_intact_batches_follow() -> Iterator[None]:
    def nothing(*_: Any) -> None:
        return None

    with patch("logstore.recovery.next_intact", nothing), patch("logstore.recovery.find_intact_batch", nothing):
        yield


@mutant("recovery takes a torn tail for damage", "S18")
def recovery_calls_torn_tails_damage() -> Iterator[None]:
    with patch.object(Recovery, "_is_torn_tail", lambda *_: False):
        yield


@mutant("nobody checks a CRC", "S18")
def rotten_bytes_are_served_and_copied() -> Iterator[None]:
    def unchecked(*of: Any) -> ReadRequest:
        return ReadRequest(*of)._replace(check_crc=False)

    with patch("logstore.partition_log.ReadRequest", unchecked):
        yield


@mutant("a leader's log goes on where the disk failed", "S19")
def a_failed_disk_is_written_on() -> Iterator[None]:
    with patch.object(Disk, "fail", lambda *_: None):
        yield


@mutant("a checkpoint is written over the old one", "S1", "S18", is_masked=True)
def checkpoints_are_overwritten_in_place() -> Iterator[None]:
    def overwrite(storage: Storage, path: str, data: Bytes) -> None:
        handle = storage.open(path, create=True)
        storage.truncate(handle, 0)
        write_fully(storage, handle, data, 0)
        storage.fsync(handle)
        storage.close(handle)
        storage.fsync_directory(parent_directory(path))

    with patch("logstore.checkpoint_writer.replace_file", overwrite):
        yield


@mutant("the disk is filled up to its last byte", "S19")
def the_reserve_is_written_on() -> Iterator[None]:
    with patch.object(Disk, "reserved_bytes", property(lambda _: 0, lambda *_: None), create=True):
        yield


@mutant("nobody asks how much is free", "S19")
def free_space_is_not_asked_for() -> Iterator[None]:
    with patch.object(Disk, "_check_space", lambda *_: None):
        yield


@mutant("a broker takes up its roles before its image has its registration", "S2", "S3", "S9", "S10")
def roles_of_a_stale_image() -> Iterator[None]:
    async def at_once(*_: Any, **__: Any) -> None:
        return None

    with patch.object(SimulatedQuorum, "wait_applied", at_once):
        yield


@mutant("an unclean restart forgets producers", "S13")
def a_restart_forgets_producers() -> Iterator[None]:
    begin_scan = LogProducers.begin_scan

    def begin(producers: LogProducers, *of: Any, **by: Any) -> None:
        begin_scan(producers, *of, **by)
        producers._state = ProducerState()

    with patch.object(LogProducers, "begin_scan", begin):
        yield


# ---- clocks


@mutant("timers go by the wall clock", "S20", only_clocks=True)
def timers_by_the_wall_clock() -> Iterator[None]:
    with patch.object(Clock, "monotonic_ms", lambda clock: float(clock.wall_ms())):
        yield


# ---- clients


@mutant("readers are given what lies a little further on", "S12")
def readers_miss_records() -> Iterator[None]:
    fetch_now = Replica.fetch_now

    def skip(replica: Replica, offset: int, **by: Any) -> Fetched:
        ahead = offset + 7
        return fetch_now(replica, ahead if ahead < replica.log.high_watermark else offset, **by)

    with patch.object(Replica, "fetch_now", skip):
        yield


# ---- the hunt


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a mutant was found, or that it was not. `found` is the first thing that was found with it put in."""

    mutant: Mutant
    seeds_run: int
    elapsed_s: float
    seed: int | None
    found: Found | None

    @property
    def is_killed(self) -> bool:
        return self.found is not None and self.found.name in self.mutant.killed_by

    @property
    def has_failed(self) -> bool:
        """The checkers do not see this bug, or saw another."""
        return not self.is_killed and (self.found is not None or not self.mutant.is_masked)

    @property
    def found_by(self) -> str:
        """For the record; nothing where nobody found it."""
        if self.found is None:
            return ""
        return self.found.name if self.is_killed else f"something else: {self.found.name}"

    def __str__(self) -> str:
        name, seeds = f"{self.mutant.name:42}", f"{self.seeds_run:3} seeds, {self.elapsed_s:6.1f} s"
        if self.found is None:
            return f"{name} SURVIVED {seeds}" + (", masked by other guards" if self.mutant.is_masked else "")
        if self.is_killed:
            return f"{name} killed by {self.found.name:16} after {seeds}"
        return f"{name} FOUND SOMETHING ELSE: look at it: seed {self.seed}, {self.found} (after {seeds})"


def hunt(mutant: Mutant, first_seed: int = 0) -> Hunt:
    """Run one seed after another until something is found, or the budget is spent."""
    started_s = time.perf_counter()
    for seed in range(first_seed, first_seed + mutant.seeds):
        with mutant.breaks():
            ran = run(seed, only_clocks=mutant.only_clocks)
        if ran.found is not None:
            return Hunt(mutant, seed - first_seed + 1, time.perf_counter() - started_s, seed, ran.found)
    return Hunt(mutant, mutant.seeds, time.perf_counter() - started_s, None, None)
