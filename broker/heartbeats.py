"""This broker's life as the controller sees it: register once a start, then a heartbeat at least every half second.

Owns the broker epoch: None until the registration of *this* process is applied here, so that nothing acts under the
epoch of an earlier life (S10); and the reports of replicas that this broker cannot vouch for (S3, S18, S19), which come
before it serves. Refuses to give up: it asks until it is cancelled. A broker that the cluster no longer knows under its
epoch registers again.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Literal
from uuid import UUID

from broker.controller_link import ControllerLink
from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from kraft.errors import OutcomeUnknown
from kraft.quorum import MetadataQuorum
from kraft.status import RoleChange
from metadata.answers import HeartbeatAnswer, PartitionsChanged, RegistrationAnswer
from metadata.image import Image
from metadata.requests import Heartbeat, LostReplicasRequest, RegistrationRequest
from wire.errors import ErrorCode, RefusedError

REGISTRATION_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.05
LOST_REPLICAS_PER_REQUEST: Final = 1_000
UNKNOWN_HERE: Final = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})

Loss = Literal["DAMAGED", "MISSING"]
Replicas = Iterable[tuple[UUID, int]]


class Heartbeats:
    """Registers this broker and keeps it alive in the controller's eyes."""

    def __init__(
        self,
        link: ControllerLink,
        quorum: MetadataQuorum,
        registration: RegistrationRequest,
        *,
        interval_ms: int,
        image: Callable[[], Image],
        missing_replicas: Callable[[], Replicas],
        on_registered: Callable[[int], None],
        on_reported: Callable[[Replicas], None],
    ) -> None:
        """`missing_replicas`: assigned to this broker, but no folder was found.

        `on_registered(broker_epoch)` is called when the registration is applied here and losses are reported,
        `on_reported` with replicas that the controller counts on no more.
        """
        self._link = link
        self._quorum = quorum
        self._registration = registration
        self._interval_s = interval_ms / 1000
        self._image = image
        self._missing_replicas = missing_replicas
        self._on_registered = on_registered
        self._on_reported = on_reported
        self._soon = asyncio.Event()
        self._unreported: list[tuple[Loss, tuple[UUID, int]]] = []
        self._wants_shutdown = False
        self._log = logger()
        self.broker_epoch: int | None = None
        self._heard_s: float | None = None
        self.may_shut_down = asyncio.Event()
        quorum.on_role_change(self._role_changed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self.broker_epoch is None:
                    await self._register()
                await self._beat()
            except RefusedError as refused:
                self._refused(refused)
            except (OutcomeUnknownError, OutcomeUnknown, TimeoutError) as unknown:
                self._log.info("registration or heartbeat unanswered", reason=str(unknown))
            await self._rest()

    def is_heard(self, session_timeout_ms: int) -> bool:
        """Whether a heartbeat that was answered had been sent within the session timeout: nobody can have fenced us.

        The answer is that of a controller whom nobody had replaced (one that was stopped may not know of it), and this
        node has applied what that one knew. Counted from before it was sent, by this machine's monotonic clock, which
        goes on while the process is stopped.
        """
        now_s = asyncio.get_running_loop().time()
        return self._heard_s is not None and 1000 * (now_s - self._heard_s) < session_timeout_ms

    def lost(self, loss: Loss, replicas: Replicas) -> None:
        """Tell the controller soon that this broker cannot vouch for these replicas."""
        self._unreported += [(loss, replica) for replica in replicas]
        self._soon.set()

    def has_reported(self, loss: Loss, replica: tuple[UUID, int]) -> bool:
        """Whether the controller has dealt with all that was said of this replica."""
        return (loss, replica) not in self._unreported

    def ask_to_shut_down(self) -> None:
        """Hand our leaderships over; `may_shut_down` is set when none is left."""
        self._wants_shutdown = True
        self._soon.set()

    async def _register(self) -> None:
        answer = await self._link.ask(self._registration, timeout_s=REGISTRATION_TIMEOUT_S)
        assert isinstance(answer, RegistrationAnswer), answer
        await self._quorum.wait_applied(answer.index, timeout_s=REGISTRATION_TIMEOUT_S)
        mine = self._image().brokers.get(self._registration.broker_id)
        if mine is not None and (mine.lost_directory_ids or mine.lost_everything):
            missing = list(self._missing_replicas())
            self._log.error(
                "a log directory of this broker's last life is gone, and with it replicas",
                partitions=len(missing),
                lost_directory_ids=[str(directory) for directory in mine.lost_directory_ids],
            )
            if not mine.lost_everything:  # of that the controller knows by itself
                self._unreported += [("MISSING", replica) for replica in missing]
        await self._report_losses(answer.broker_epoch)
        self.broker_epoch = answer.broker_epoch
        self._log.info("registered", broker_epoch=answer.broker_epoch)
        self._on_registered(answer.broker_epoch)

    async def _report_losses(self, broker_epoch: int) -> None:
        while self._unreported:
            loss = self._unreported[0][0]
            some = [entry for entry in self._unreported if entry[0] == loss][:LOST_REPLICAS_PER_REQUEST]
            request = LostReplicasRequest(
                broker_id=self._registration.broker_id,
                broker_epoch=broker_epoch,
                loss=loss,
                replicas=tuple(replica for _, replica in some),
            )
            answer = await self._link.ask(request, timeout_s=REGISTRATION_TIMEOUT_S)
            # Another change came in between, such as the election that follows this very registration: that replica
            # may still be counted on, so it is reported again (S3).
            refusals = answer.refusals if isinstance(answer, PartitionsChanged) else ()
            refused = {(one.topic_id, one.partition) for one in refusals}
            reported = {entry for entry in some if entry[1] not in refused}
            self._unreported = [entry for entry in self._unreported if entry not in reported]
            self._on_reported([replica for _, replica in reported])
            if refused:
                await asyncio.sleep(RETRY_S)

    async def _beat(self) -> None:
        assert self.broker_epoch is not None
        await self._report_losses(self.broker_epoch)
        heartbeat = Heartbeat(
            broker_id=self._registration.broker_id,
            broker_epoch=self.broker_epoch,
            applied_index=self._quorum.last_applied,
            wants_shutdown=self._wants_shutdown,
            reported_lost_replicas=True,
        )
        sent_s = asyncio.get_running_loop().time()
        answer = await self._link.ask(heartbeat, timeout_s=max(1.0, 2 * self._interval_s))
        assert isinstance(answer, HeartbeatAnswer), answer
        if answer.is_certain and answer.index <= self._quorum.last_applied:
            self._heard_s = sent_s
        if self._wants_shutdown and answer.should_shut_down:
            self.may_shut_down.set()
        elif self._wants_shutdown or not answer.is_caught_up:
            self._soon.set()

    def _refused(self, refused: RefusedError) -> None:
        if refused.code in UNKNOWN_HERE:
            self._log.warning("the cluster does not know this broker's epoch; registering again", reason=str(refused))
            self.broker_epoch = None
        elif refused.code is not ErrorCode.BROKER_NOT_AVAILABLE:
            self._log.warning("registration or heartbeat refused", code=refused.code.name, reason=str(refused))

    async def _rest(self) -> None:
        """Until the next beat is due; a little while where it is wanted soon, so that nothing ever spins."""
        if not self._soon.is_set():
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._soon.wait()
            except TimeoutError:
                return
        self._soon.clear()
        await asyncio.sleep(RETRY_S)

    def _role_changed(self, change: RoleChange) -> None:
        if change.leader_id is not None:
            self._soon.set()
