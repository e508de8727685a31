"""A voter on the quorum's thread: the core, its links, and the loop that makes the core take its turns.

Owns when the core ticks: once after any burst of messages, connections and proposals, at its next deadline, and at
least every `IDLE_TURN_S`. The rules are the core's, the bytes the transport's, the futures the face's.

Invariants: the core is ticked from one place, never re-entered; all that one round answered reaches the node's loop
with one wake-up; after a failure nothing is ticked or sent.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from kraft.core import Core
from kraft.errors import QuorumError
from kraft.log_server import LogServer
from kraft.peer_frames import Channel
from kraft.peer_transport import PeerTransport
from kraft.quorum_config import QuorumConfig, StateMachine
from kraft.status import QuorumStatus, RoleChange
from kraft.threaded_quorum import MemberReports

IDLE_TURN_S: Final = 0.2
"""The longest time without a turn of the core. Its own deadlines (the next heartbeat, the next campaign) are met to the
millisecond, so nothing waits for this one; every needless wake-up is what an idle node costs."""
SHORTEST_PAUSE_S: Final = 0.005
STATUS_CHANGED_S: Final = 0.05
STATUS_UNCHANGED_S: Final = 0.5


class RaftMember:
    """Made, used and closed on the quorum's thread; the four integers may be read from any."""

    def __init__(self, config: QuorumConfig, state_machine: StateMachine, reports: MemberReports) -> None:
        self._loop = asyncio.get_running_loop()
        self._reports = reports
        self._is_tick_due = False
        self._due_at_s = 0.0
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._status_seen: tuple[int | None, ...] = ()
        self._status_at_s = 0.0
        self.transport = PeerTransport(config, wake=self.wake)
        self.core = Core(
            config,
            state_machine,
            self.transport,
            on_applied=self._applied,
            on_role_change=self._role_changed,
            on_failure=reports.failed,
        )
        self._log_server = LogServer(self.core, self._loop)
        self.transport.requests.set_handler(Channel.METADATA_LOG, self._log_server.serve)

    @property
    def is_leader(self) -> bool:
        return self.core.is_leader

    @property
    def is_followed(self) -> bool:
        return self.core.is_followed

    @property
    def leader_id(self) -> int | None:
        return self.core.leader_id

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def last_applied(self) -> int:
        return self.core.last_applied

    async def start(self) -> None:
        """Listen, dial and begin to tick; OSError where the address cannot be bound."""
        try:
            await self.transport.start()
        except BaseException:
            self.core.close()
            raise
        self._tick()

    async def stop(self) -> None:
        """Close files and links."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._log_server.close()
        try:
            self.core.close()
        finally:
            await self.transport.stop()

    def wake(self) -> None:
        """Have the core take a turn after what is being delivered just now."""
        if not self._is_tick_due:
            self._is_tick_due = True
            self._loop.call_soon(self._tick)

    def propose(self, command: bytes, outcome: Callable[[object, QuorumError | None], None]) -> None:
        self.core.propose(command, outcome)
        self.wake()

    def barrier(self, outcome: Callable[[object, QuorumError | None], None]) -> None:
        self.core.barrier(outcome)
        self.wake()

    def status(self) -> QuorumStatus:
        return self.core.status()

    def _tick(self) -> None:
        self._is_tick_due = False
        if self._is_stopped or self.core.failure is not None:
            return
        if self.core.tick():
            self.wake()
        self._report_status()
        self._reports.flush()
        self._arm()

    def _arm(self) -> None:
        """Have the timer go off at the core's next deadline; a later one than needed is moved, an earlier one stays."""
        deadline_s = self.core.next_heartbeat_at if self.core.is_leader else self.core.campaign_at
        pause_s = min(max(deadline_s - self.core.now(), SHORTEST_PAUSE_S), IDLE_TURN_S)
        self._due_at_s = self._loop.time() + pause_s
        if self._timer is not None:
            if self._timer.when() <= self._due_at_s + 0.001:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(pause_s + 0.001, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() >= self._due_at_s:
            self._tick()
        else:  # messages came in between and moved the deadline
            self._timer = self._loop.call_at(self._due_at_s + 0.001, self._on_timer)

    def _report_status(self) -> None:
        seen = (self.term, self.leader_id, self.core.commit_index, self.last_applied)
        age_s = self._loop.time() - self._status_at_s
        if age_s >= (STATUS_UNCHANGED_S if seen == self._status_seen else STATUS_CHANGED_S):
            self._status_seen, self._status_at_s = seen, self._loop.time()
            self._reports.status_changed(self.core.status())

    def _applied(self, index: int) -> None:
        self._log_server.applied()
        self._reports.applied(index)

    def _role_changed(self, change: RoleChange) -> None:
        self._log_server.role_changed()
        self._reports.role_changed(change)
