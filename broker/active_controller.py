"""The active controller's hands: the pure `metadata.controller` decides, this proposes.

Owns the turn: it begins with a `barrier()` after winning leadership of the quorum and ends when leadership is lost.
Refuses every request outside of it (`NotControllerAnswer`: nothing was proposed). A decision is made on the committed
image and carries preconditions, so a turn that ended without our noticing changes nothing (S16).
"""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from msgspec import structs

from broker.clock import Clock
from broker.event_log import logger
from kraft.errors import NotLeader, OutcomeUnknown
from kraft.quorum import MetadataQuorum
from kraft.status import RoleChange
from metadata import codec
from metadata.answers import AdminAnswer, NotControllerAnswer, PartitionsChanged, Refused
from metadata.commands import Proposal
from metadata.controller import Controller
from metadata.delta import Delta
from metadata.image import Image
from metadata.requests import Envelope, Heartbeat, RegistrationRequest
from wire.errors import RefusedError

TICK_S: Final = 0.1
PROPOSAL_TIMEOUT_S: Final = 5.0
BARRIER_TIMEOUT_S: Final = 5.0


class ActiveController:
    """Runs on every voter; active on the quorum's leader only."""

    def __init__(
        self,
        quorum: MetadataQuorum,
        controller: Controller,
        *,
        node_id: int,
        image: Callable[[], Image],
        clock: Clock,
        new_id: Callable[[], UUID],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._quorum = quorum
        self._controller = controller
        self._node_id = node_id
        self._image = image
        self._clock = clock
        self._new_id = new_id
        self._on_bug = on_bug
        self._log = logger()
        self._active_term: int | None = None
        self._leader_id: int | None = None
        self._ended_leader: tuple[int, int] | None = None  # who led before, and when it was heard last (monotonic ms)
        self._soon = asyncio.Event()
        self._proposing: set[asyncio.Task[None]] = set()
        quorum.on_role_change(self._role_changed)

    @property
    def is_active(self) -> bool:
        """This node may decide: it leads, and had applied everything committed before when its turn began."""
        return self._quorum.is_leader and self._active_term == self._quorum.term

    async def run(self) -> None:
        """Until cancelled: take the turn when leadership comes, and decide in it what time decides."""
        while True:
            if self._quorum.is_leader and not self.is_active:
                await self._begin_turn()
            if self.is_active:
                self._tick()
            await self._rest()

    def see(self, _: Image, delta: Delta) -> None:
        """Changed brokers, and partitions that lost their leader, may ask for a decision at once."""
        if delta.changed_brokers or (delta.changed_partitions and not delta.created_topics):
            self._soon.set()

    async def handle(self, envelope: Envelope, timeout_s: float) -> AdminAnswer:
        """Answer one request; raises OutcomeUnknown where its command may or may not get committed."""
        if not self.is_active:
            return self._not_controller()
        try:
            decision = self._decide(envelope)
            if isinstance(decision, Proposal):
                return await self._propose(decision, timeout_s=timeout_s)
        except RefusedError as refused:
            return Refused.of(refused, index=self._image().applied_index)
        except NotLeader:
            return self._not_controller()
        return decision

    def _decide(self, envelope: Envelope) -> Proposal | AdminAnswer:
        image, now_ms = self._image(), int(self._clock.monotonic_ms())
        request = envelope.request
        if isinstance(request, Heartbeat):
            self._soon.set()
            heard = self._controller.heard(image, request, now_ms=now_ms)
            return structs.replace(heard, is_certain=self._quorum.is_followed)
        if isinstance(request, RegistrationRequest):
            return self._controller.register(image, request, now_ms=now_ms)
        return self._controller.decide(
            image, request, command_id=envelope.command_id, new_id=self._new_id(), now_ms=now_ms
        )

    async def _propose(self, proposal: Proposal, *, timeout_s: float) -> AdminAnswer:
        answer = await self._quorum.propose(codec.encode_proposal(proposal), timeout_s=timeout_s)
        assert isinstance(answer, AdminAnswer), answer
        return answer

    async def _begin_turn(self) -> None:
        term = self._quorum.term
        try:
            await self._quorum.barrier(timeout_s=BARRIER_TIMEOUT_S)
        except (NotLeader, OutcomeUnknown):
            return
        if self._quorum.term != term:
            return
        ended = dict([self._ended_leader] if self._ended_leader is not None else ())
        self._controller.activated(self._image(), int(self._clock.monotonic_ms()), ended)
        self._active_term = term
        self._log.info("active controller", term=term)

    def _tick(self) -> None:
        for proposal in self._controller.tick(self._image(), int(self._clock.monotonic_ms())):
            task = asyncio.get_running_loop().create_task(self._carry_out(proposal))
            self._proposing.add(task)
            task.add_done_callback(self._carried_out)

    def _carried_out(self, task: asyncio.Task[None]) -> None:
        self._proposing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_bug(error)

    async def _carry_out(self, proposal: Proposal) -> None:
        """Propose what time decided; what fails here is decided again by a later tick."""
        kind = type(proposal.command).__name__
        try:
            answer = await self._propose(proposal, timeout_s=PROPOSAL_TIMEOUT_S)
        except (NotLeader, OutcomeUnknown, RefusedError) as error:
            self._log.info("not carried out", command=kind, reason=str(error))
            return
        if isinstance(answer, Refused):
            self._log.info("overtaken", command=kind, reason=answer.message)
        elif isinstance(answer, PartitionsChanged) and not answer.changed:
            self._log.info("overtaken", command=kind, reason=answer.refusals[0].message)
        else:
            self._log.info("decided", command=kind, broker_id=getattr(proposal.command, "broker_id", None))

    def _not_controller(self) -> NotControllerAnswer:
        leader_id = self._quorum.leader_id
        return NotControllerAnswer(index=0, leader_id=-1 if leader_id is None else leader_id)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(TICK_S if self._quorum.is_leader else None):
                await self._soon.wait()
        except TimeoutError:
            return
        self._soon.clear()

    def _note_ended_leader(self, change: RoleChange) -> None:
        """The broker on the leader's node died with it: its session need not begin anew with the next controller."""
        if self._leader_id == self._node_id:
            self._ended_leader = None
        elif self._leader_id is not None and self._leader_id != change.leader_id:
            heard_ms = int(self._clock.monotonic_ms()) - change.leader_silent_ms
            self._ended_leader = (self._leader_id, heard_ms)
        self._leader_id = change.leader_id

    def _role_changed(self, change: RoleChange) -> None:
        self._log.info("quorum leader", leader_id=change.leader_id, term=change.term)
        self._note_ended_leader(change)
        if self._active_term is not None and not change.is_leader:
            self._active_term = None
            self._log.warning("active controller no more", term=change.term)
        self._soon.set()
