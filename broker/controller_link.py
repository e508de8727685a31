"""How this node asks the active controller, wherever it is: the way of every admin call, registration and heartbeat.

Owns the retries: a request is asked again until its time is over, of whoever leads then. That is harmless: an admin
request carries a command id, under which it takes effect once, and the others are harmless twice. Refuses to wait for a
leader that says nothing while there may be another (L1), and to guess: what stays doubtful at the deadline, or
is refused when it is in doubt already, is `OutcomeUnknownError` (S2, S15).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker.errors import OutcomeUnknownError
from kraft.errors import OutcomeUnknown, PeerUnavailable
from kraft.quorum import MetadataQuorum
from kraft.status import RoleChange
from metadata import codec
from metadata.answers import AdminAnswer, NotControllerAnswer, OutcomeUnknownAnswer, PartitionsChanged, Refused
from metadata.image import CommandId
from metadata.requests import AdminRequest, Envelope
from wire.errors import ErrorCode, RefusedError

RETRY_S: Final = 0.05
ATTEMPT_S_MIN: Final = 0.01
HEARTBEATS_DUE_S: Final = 3.0
"""A controller that was just elected knows no broker before it has heard its heartbeat; all are due within moments."""
ATTEMPT_S_MAX: Final = 3.0
"""A leader that is silent for so long is paused, cut off or replaced: look again who leads."""

HandleHere = Callable[[Envelope, float], Awaitable[AdminAnswer]]


class ControllerLink:
    """Asks this node's own controller, or another node's over the peer link."""

    def __init__(self, quorum: MetadataQuorum, *, broker_id: int, handle_here: HandleHere) -> None:
        self._quorum = quorum
        self._broker_id = broker_id
        self._handle_here = handle_here
        self._leadership_moved = asyncio.Event()
        quorum.on_role_change(self._role_changed)

    async def ask(self, request: AdminRequest, *, timeout_s: float, command_id: CommandId | None = None) -> AdminAnswer:
        """The controller's answer; raises RefusedError where it refused, OutcomeUnknownError where nobody knows.

        Without a command id the request must be harmless when it is carried out twice. Once it is in doubt no refusal
        ends that: it is of a later copy, and the first may still arrive and be taken (S2).
        An answer may be ahead of this node: wait for its `index` before telling a client.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        envelope = Envelope(request=request, command_id=command_id)
        patient_until_s: float | None = None
        in_doubt = False
        reason = "the metadata quorum has no leader"
        while (left_s := deadline_s - loop.time()) > ATTEMPT_S_MIN:
            self._leadership_moved.clear()
            try:
                answer = _told(await self._attempt(envelope, left_s), in_doubt=in_doubt)
            except PeerUnavailable as error:
                reason = str(error)
            except OutcomeUnknown as error:
                in_doubt, reason = True, str(error)
            except RefusedError as refused:
                patient_until_s = patient_until_s or loop.time() + HEARTBEATS_DUE_S
                if refused.code is not ErrorCode.BROKER_NOT_AVAILABLE or loop.time() > patient_until_s:
                    raise _doubt(refused.message) if in_doubt else refused from None
                reason = refused.message
            else:
                if answer is not None:
                    return answer
            await self._pause(deadline_s - loop.time())
        if in_doubt:
            raise _doubt(reason)
        raise RefusedError(ErrorCode.BROKER_NOT_AVAILABLE, f"nothing was changed: {reason}; try again")

    async def _attempt(self, envelope: Envelope, timeout_s: float) -> AdminAnswer | None:
        """One attempt; None where no leader is known."""
        leader_id = self._quorum.leader_id
        if leader_id is None:
            return None
        if leader_id == self._broker_id:
            return await self._handle_here(envelope, timeout_s)
        asking = asyncio.ensure_future(
            self._quorum.request(leader_id, codec.encode_request(envelope), timeout_s=min(timeout_s, ATTEMPT_S_MAX))
        )
        moved = asyncio.ensure_future(self._leadership_moved.wait())
        try:
            await asyncio.wait({asking, moved}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise OutcomeUnknown(f"leadership of the quorum moved before node {leader_id} answered")
            return codec.decode_answer(asking.result())
        finally:
            asking.cancel()
            moved.cancel()

    async def _pause(self, left_s: float) -> None:
        """Until leadership moves, a little while at most."""
        try:
            async with asyncio.timeout(max(0.0, min(RETRY_S, left_s))):
                await self._leadership_moved.wait()
        except TimeoutError:
            return

    def _role_changed(self, _: RoleChange) -> None:
        self._leadership_moved.set()


def _told(answer: AdminAnswer | None, *, in_doubt: bool) -> AdminAnswer | None:
    """What the caller is told; None where another node must be asked. Raises the controller's refusal or doubt."""
    if isinstance(answer, OutcomeUnknownAnswer):
        raise OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, answer.message)
    if in_doubt and isinstance(answer, PartitionsChanged) and answer.refusals:
        raise _doubt(answer.refusals[0].message)
    if isinstance(answer, Refused):
        raise answer.error()
    return None if isinstance(answer, NotControllerAnswer) else answer


def _doubt(reason: str) -> OutcomeUnknownError:
    message = f"it may or may not have taken effect: {reason}; look, then try again"
    return OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, message)
