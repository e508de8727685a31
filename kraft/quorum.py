"""The metadata quorum as the rest of a node sees it: an asyncio face, used from the node's own loop only.

`MetadataQuorum` is the face; `RaftQuorum` is a voter, `Observer` (kraft/observer.py) a node that follows the log
without voting, `MemoryQuorum` (kraft/memory_quorum.py) the same face for tests. Nothing outside kraft/ knows what lies
below.

What a caller may rely on: an answer of `propose` means committed by a majority's disks and applied on this node;
`NotLeader` means that nothing was appended; `OutcomeUnknown` means neither. Being the leader is permission to act as
the controller only after a `barrier()`.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from kraft.quorum_config import QuorumConfig, StateMachine
from kraft.raft_member import RaftMember
from kraft.status import QuorumStatus, RoleChange, VoterStatus
from kraft.threaded_quorum import ThreadedQuorum

__all__ = ["MetadataQuorum", "QuorumStatus", "RaftQuorum", "RequestHandler", "RoleChange", "VoterStatus"]

RequestHandler = Callable[[int, bytes], Awaitable[bytes]]
"""Answers a request of another node: (its node id, payload) -> payload. Runs on the node's loop, in its own task."""


class MetadataQuorum(Protocol):
    """One node's end of the quorum; all calls and callbacks on the loop that called `start`."""

    @property
    def is_leader(self) -> bool:
        """Whether this node believes to lead; a stale leader believes so for up to two seconds."""

    @property
    def is_followed(self) -> bool:
        """Whether this node leads and a majority heard it so lately that they would ignore any candidate: nobody else
        led a moment ago. False more often than need be, never true for long where it is not.
        """

    @property
    def leader_id(self) -> int | None:
        """The last known leader, None while there is none."""

    @property
    def term(self) -> int:
        """The Raft term; it never falls."""

    @property
    def last_applied(self) -> int:
        """The index of the last entry that this node's state machine holds."""

    @property
    def failure(self) -> BaseException | None:
        """What stopped this member for good (a failed disk, a state machine that raised); the node must stop then."""

    async def start(self) -> None:
        """Open the files, restore the state machine, listen and connect; raises what is wrong with any of them."""

    async def stop(self) -> None:
        """Close everything; open proposals end in OutcomeUnknown. Safe to call twice and after a failure."""

    async def propose(self, command: bytes, *, timeout_s: float) -> object:
        """Commit a command and return what the state machine answered to it.

        Raises NotLeader (nothing was appended), OutcomeUnknown (it may or may not commit: retry with the same command
        id), RefusedError (MESSAGE_TOO_LARGE, or THROTTLING_QUOTA_EXCEEDED with too many under way; nothing appended).
        """

    async def wait_applied(self, index: int, *, timeout_s: float) -> None:
        """Return when this node has applied `index`; TimeoutError, or OutcomeUnknown when the member stops before."""

    async def barrier(self, *, timeout_s: float) -> int:
        """An index such that everything acknowledged before this call is applied here, while this node leads.

        Raises NotLeader or OutcomeUnknown. Before acting as the controller, and before a linearizable read.
        """

    def status(self) -> QuorumStatus:
        """What the member last said about itself: at most 0.25 s old where anything changed, 0.75 s elsewhere."""

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        """Called at every change of (term, leader, is_leader), in order."""

    def on_failure(self, callback: Callable[[BaseException], None]) -> None:
        """Called once, with `failure`."""

    async def request(self, node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        """Ask the handler of any node, this one included.

        Raises PeerUnavailable (certainly not begun), OutcomeUnknown (no answer in time, the link fell, or the handler
        raised), RefusedError (the payload is too long).
        """

    def on_request(self, handler: RequestHandler) -> None:
        """Set who answers the requests of other nodes; before that they hear PeerUnavailable."""

    def set_peer_endpoint(self, node_id: int, host: str, port: int) -> None:
        """Where a node that is no voter listens for peers, as its registration says; voters are known by config."""

    def forget_peer(self, node_id: int) -> None:
        """A node that is no voter left the cluster: stop dialing it."""


class RaftQuorum(ThreadedQuorum):
    """A voter: journal, elections and commits on a thread of its own, so that neither side's work delays the other."""

    def __init__(self, config: QuorumConfig, state_machine: StateMachine) -> None:
        assert config.is_voter, f"node {config.node_id} is no voter: it needs an Observer"
        super().__init__(config, lambda reports: RaftMember(config, state_machine, reports))
