"""Bugs that quorums have had, put into real cores one at a time: the fuzzer must find each (fuzz_quorum.py).

A mutant breaks one rule for as long as its context lasts; none exists outside of test code.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from kraft.core import Core, Outcome
from kraft.disk import NEW_SUFFIX, Disk
from kraft.errors import DamagedError
from kraft.journal import DurableJournal
from kraft.pinned_syncobj import LEADER
from tests.kraft.fuzz_quorum import run_seed
from tests.kraft.simulated_cluster import CommittedIsLostError, NodeFailedError, StaleBarrierError, TwoLeadersError


@dataclass(frozen=True, slots=True)
class QuorumMutant:
    """To be found within so many seeds, and as one of these."""

    what: str
    breaks: Callable[[], AbstractContextManager[None]]
    seeds: int
    found_as: tuple[type[BaseException], ...]

    @property
    def name(self) -> str:
        return self.breaks.__name__


MUTANTS: list[QuorumMutant] = []


def mutant(
    what: str, *found_as: type[BaseException], seeds: int = 60
) -> Callable[[Callable[[], Iterator[None]]], None]:
    """A generator that yields once; its name is the mutant's."""

    def add(breaks: Callable[[], Iterator[None]]) -> None:
        MUTANTS.append(QuorumMutant(what, contextmanager(breaks), seeds, found_as))

    return add


class _Unsynced:
    """A file, or a directory, that says it is synced."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def open(self, name: str) -> Any:
        return _Unsynced(self._real.open(name))

    def sync(self) -> None:
        pass

    def sync_directory(self) -> None:
        pass


@mutant("the vote's file is renamed before it is synced", DamagedError, TwoLeadersError)
def votes_are_not_synced() -> Iterator[None]:
    def write(disk: Disk, name: str, data: bytes) -> None:
        disk.create(name + NEW_SUFFIX).append(data)
        disk.rename(name + NEW_SUFFIX, name)
        disk.sync_directory()

    with patch("kraft.term_and_vote.write_atomically", write):
        yield


@mutant("the vote's name is not synced", TwoLeadersError, NodeFailedError)
def votes_names_are_not_synced() -> Iterator[None]:
    def write(disk: Disk, name: str, data: bytes) -> None:
        file = disk.create(name + NEW_SUFFIX)
        file.append(data)
        file.sync()
        disk.rename(name + NEW_SUFFIX, name)

    with patch("kraft.term_and_vote.write_atomically", write):
        yield


@mutant("entries are acknowledged before they are synced", DamagedError, CommittedIsLostError)
def entries_are_not_synced() -> Iterator[None]:
    synced = DurableJournal.sync

    def sync(journal: DurableJournal) -> None:
        file, journal._file = journal._file, _Unsynced(journal._file)
        try:
            synced(journal)
        finally:
            journal._file = file

    with patch.object(DurableJournal, "sync", sync):
        yield


@mutant("what the last process wrote counts as synced", CommittedIsLostError, StaleBarrierError, NodeFailedError)
def a_start_does_not_sync() -> Iterator[None]:
    made = DurableJournal.__init__

    def make(journal: DurableJournal, disk: Any, *arguments: Any) -> None:
        made(journal, _Unsynced(disk), *arguments)
        journal._disk, journal._file = disk, journal._file._real

    with patch.object(DurableJournal, "__init__", make):
        yield


@mutant("a barrier is answered without asking anybody", StaleBarrierError)
def barriers_ask_nobody() -> Iterator[None]:
    def barrier(core: Core, outcome: Outcome) -> None:
        if core.is_leader:
            outcome(core.applied, None)

    with patch.object(Core, "barrier", barrier):
        yield


@mutant("an answer that nobody expected", NodeFailedError)
def a_core_stops_by_a_bug() -> Iterator[None]:
    def raises(_core: Core, _voter: object, message: Any) -> None:
        raise KeyError(message["type"])

    with patch.dict(Core._handlers, {"snapshot_chunk_ack": raises}):
        yield


@contextmanager
def older_terms_are_counted() -> Iterator[None]:
    """Raft, figure 8: left to a directed test, since an entry seldom travels without its leader's first one.

    Six hundred schedules did not meet that.
    """
    ticked = Core.tick_library

    def tick(core: Core) -> None:
        if core.state == LEADER:
            held = sorted([core.journal.durable_index, *core.counted_match.values()])
            core._commit(min(held[(len(held) - 1) // 2], core.journal.last_index))
        ticked(core)

    with patch.object(Core, "tick_library", tick):
        yield


def hunt(mutant: QuorumMutant, first_seed: int = 0) -> tuple[int, BaseException] | None:
    """The first seed that finds it, and as what; anything that is no finding of its kind is raised."""
    for seed in range(first_seed, first_seed + mutant.seeds):
        with mutant.breaks():
            try:
                run_seed(seed)
            except mutant.found_as as found:
                return seed, found
    return None
