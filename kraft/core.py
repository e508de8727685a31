"""The Raft core: pysyncobj's SyncObj with its faults mended. One thread owns it and calls everything on it.

FACE (final; the body follows):

    core = Core(config, state_machine, transport, on_applied=..., on_role_change=..., on_failure=...)

Driver's contract
- `transport` is a pysyncobj `Transport` with one more method, `flush()`. `send(voter, message) -> bool` only queues
  (False: not connected or queue full, and nothing was queued); nothing may leave before the core calls `flush()`, which
  it does from `tick()` when everything that the messages promise is on disk. `ready` is True from the start.
  The shapes of messages stand in kraft/raft_messages.py; the transport drops what does not have them.
- The transport calls `self._onNodeConnected(Voter(id))`, `self._onNodeDisconnected(...)` and
  `self._onMessageReceived(Voter(id), message)` for voters only, on the core's thread, never from inside `send`/`flush`,
  and then sees to it that `tick()` runs soon (one tick may serve many messages).
- `tick()` runs at least every 50 ms, and soon after any message, connection or proposal. It returns True when it wants
  to be called again at once. It never raises: a fatal error is reported once to `on_failure`, after which the core sends
  nothing, answers nothing and ignores everything.
- Callbacks come from inside `tick()`, last, when the core is at rest: they may call `propose`, `barrier` and `status`,
  not `tick`. One that raises is a fatal error.
"""

from collections.abc import Callable
from typing import Any, Protocol

from kraft.errors import QuorumError
from kraft.quorum_config import QuorumConfig, StateMachine
from kraft.status import QuorumStatus, RoleChange

Outcome = Callable[[object, QuorumError | None], None]
"""Called once: (the state machine's answer, None), or (None, NotLeader | OutcomeUnknown)."""


class CoreTransport(Protocol):
    """A pysyncobj Transport that queues in `send` and lets go in `flush`."""

    ready: bool

    def send(self, node: Any, message: dict[str, Any]) -> bool: ...
    def flush(self) -> None: ...
    def destroy(self) -> None: ...


class Core:
    def __init__(
        self,
        config: QuorumConfig,
        state_machine: StateMachine,
        transport: CoreTransport,
        *,
        on_applied: Callable[[int], None] = lambda _: None,
        on_role_change: Callable[[RoleChange], None] = lambda _: None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Open journal, term, vote and snapshot and restore the state machine (raises what is wrong with them)."""

    def tick(self) -> bool:
        raise NotImplementedError

    def propose(self, command: bytes, outcome: Outcome) -> None:
        """Append on the leader; RefusedError(MESSAGE_TOO_LARGE) above config.command_bytes_max.

        Not the leader: `outcome(None, NotLeader)` at once, from inside this call.
        """
        raise NotImplementedError

    def barrier(self, outcome: Outcome) -> None:
        """The result is an index: all that was acknowledged before this call is applied here, and this node leads."""
        raise NotImplementedError

    def status(self) -> QuorumStatus:
        raise NotImplementedError

    def committed_entries(self, from_index: int, max_bytes: int) -> tuple[list[tuple[int, bytes]], int] | None:
        """Applied application commands from `from_index` on as (index, command), and the index to ask for next.

        At least one entry where there is one; none and `from_index` where there is none yet.
        None: compacted away, use the snapshot.
        """
        raise NotImplementedError

    def snapshot_for_observer(self) -> tuple[int, bytes]:
        """(last applied index, the state machine's snapshot at it)."""
        raise NotImplementedError

    def close(self) -> None:
        """Sync and close the files, destroy the transport; outcomes still waiting get OutcomeUnknown."""
        raise NotImplementedError

    @property
    def is_leader(self) -> bool:
        raise NotImplementedError

    @property
    def leader_id(self) -> int | None:
        raise NotImplementedError

    @property
    def term(self) -> int:
        raise NotImplementedError

    @property
    def last_applied(self) -> int:
        raise NotImplementedError

    @property
    def commit_index(self) -> int:
        raise NotImplementedError

    @property
    def failure(self) -> BaseException | None:
        raise NotImplementedError
