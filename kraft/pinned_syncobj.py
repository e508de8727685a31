"""pysyncobj 0.3.17's SyncObj with its private state under plain names: the only file that spells the private ones.

Owns the border to the library. What stays the library's: candidacy, counting votes, counting matches to the commit
index, a leader's resignation, the heartbeat's timing and the order of one tick. What does not: its journal (injected),
its transport (handed in), its serializer, its forwarding, its pickled commands and its apply path.

A private name that the pinned version lacks fails tests/kraft/test_pinned_privates.py.
"""

# ruff: noqa: N802 - the overridden names are the library's

from typing import Any, Generic, TypeVar, overload

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf

from kraft.journal import DurableJournal
from kraft.voters import Voter

PREFIX = "_SyncObj__"
FOLLOWER = pysyncobj.syncobj._RAFT_STATE.FOLLOWER  # noqa: SLF001 - the border to the library
CANDIDATE = pysyncobj.syncobj._RAFT_STATE.CANDIDATE  # noqa: SLF001 - the border to the library
LEADER = pysyncobj.syncobj._RAFT_STATE.LEADER  # noqa: SLF001 - the border to the library

_create_library_journal = pysyncobj.syncobj.createJournal


def _create_journal(journal: Any) -> Any:
    """The library has no hook for a journal: in place of a file's name it gets the journal itself."""
    return journal if isinstance(journal, DurableJournal) else _create_library_journal(journal)


pysyncobj.syncobj.createJournal = _create_journal


T = TypeVar("T")


class Private(Generic[T]):
    """A private attribute of SyncObj under a name of ours."""

    def __init__(self, name: str) -> None:
        self.name = PREFIX + name

    @overload
    def __get__(self, instance: None, owner: type) -> "Private[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "T | Private[T]":
        # No cast(): this is on the path of every message.
        return self if instance is None else instance.__dict__[self.name]

    def __set__(self, instance: object, value: T) -> None:
        instance.__dict__[self.name] = value


class PinnedSyncObj(SyncObj):  # type: ignore[misc]  # pysyncobj has no type hints
    """The library's object; a subclass sees plain names and gives bodies to the hooks at the end."""

    state: Private[int] = Private("raftState")
    leader: Private[Voter | None] = Private("raftLeader")
    current_term: Private[int] = Private("raftCurrentTerm")
    voted_for: Private[int | None] = Private("votedForNodeId")
    campaign_at: Private[float] = Private("raftElectionDeadline")
    """When the library starts an election, on the clock of `now`."""
    committed: Private[int] = Private("raftCommitIndex")
    applied: Private[int] = Private("raftLastApplied")
    others: Private[set[Voter]] = Private("otherNodes")
    connected: Private[set[Voter]] = Private("connectedNodes")
    counted_match: Private[dict[Voter, int]] = Private("raftMatchIndex")
    """What the library counts towards the commit index."""
    last_response_at: Private[dict[Voter, float]] = Private("lastResponseTime")
    next_heartbeat_at: Private[float] = Private("newAppendEntriesTime")
    links: Private[Any] = Private("transport")
    _needs_dump: Private[bool] = Private("needLoadDumpFile")

    def __init__(self, voter: Voter, others: list[Voter], conf: SyncObjConf, transport: Any) -> None:
        super().__init__(voter, others, conf=conf, transport=transport)
        self._needs_dump = False
        for message in ("status", "add", "remove", "set_version", "transfer"):
            transport.setOnUtilityMessageCallback(message, None)
        self._poller = _NothingToPoll()

    def __dir__(self) -> list[str]:
        """The library looks here for @replicated methods, evaluating every property; there are none."""
        return []

    @staticmethod
    def now() -> float:
        """Monotonic seconds, from the library's clock: the one that its own timers use."""
        now: float = pysyncobj.syncobj.monotonicTime()
        return now

    def election_timeout_s(self) -> float:
        """A new random one."""
        timeout_s: float = self._SyncObj__generateRaftTimeout()
        return timeout_s

    def store_term(self, term: int, voted_for: int | None) -> None:
        """Durable when this returns."""
        self._SyncObj__setCurrentTerm(term, voted_for)

    def become_follower(self) -> None:
        self._SyncObj__setState(FOLLOWER)

    def count_vote(self, voter: Voter) -> None:
        """Count one vote of the current term; a majority makes this node the leader."""
        super()._SyncObj__onMessageReceived(voter, {"type": "response_vote", "term": self.current_term})

    def lead(self) -> None:
        """What the library does when it has won: the state, the peers' positions, a no-op of its own term."""
        super()._SyncObj__onBecomeLeader()

    def library_tick(self) -> None:
        """Campaign, count, apply, heartbeat, compact: the last three through the hooks below."""
        self._onTick(0.0)

    # Hooks: what the library calls and a subclass mends

    def on_message(self, voter: Voter, message: Any) -> None:
        raise NotImplementedError

    def on_connected(self, voter: Voter) -> None:
        raise NotImplementedError

    def on_elected(self) -> None:
        raise NotImplementedError

    def send_heartbeats(self) -> None:
        raise NotImplementedError

    def apply_committed(self) -> None:
        raise NotImplementedError

    def compact(self) -> None:
        raise NotImplementedError

    def _SyncObj__onMessageReceived(self, voter: Voter, message: Any) -> None:
        self.on_message(voter, message)

    def _SyncObj__onNodeConnected(self, voter: Voter) -> None:
        super()._SyncObj__onNodeConnected(voter)
        self.on_connected(voter)

    def _SyncObj__onBecomeLeader(self) -> None:
        self.on_elected()

    def _SyncObj__sendAppendEntries(self) -> None:
        self.send_heartbeats()

    def _SyncObj__applyLogEntries(self) -> bool:
        self.apply_committed()
        return False

    def _SyncObj__tryLogCompaction(self) -> None:
        self.compact()

    def _checkCommandsToApply(self) -> None:
        """Proposals are appended by `Core.propose`, on the leader only; nothing is queued or forwarded."""

    def _SyncObj__doApplyCommand(self, _command: bytes) -> None:
        raise AssertionError("the library's apply path unpickles; it is never taken")

    def _SyncObj__loadDumpFile(self, **_arguments: object) -> None:
        raise AssertionError("the library's snapshots are pickled; they are never loaded")


class _NothingToPoll:
    """Sockets are the transport's; the library polls at the end of each tick."""

    def poll(self, timeout: float) -> None:
        pass
