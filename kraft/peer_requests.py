"""Questions and answers over the peer links, in both directions, with correlation ids and bounds.

Owns what is under way: the questions this node asked (and whom to tell) and the number it is answering per link.

Refuses: a payload beyond the frame limit, more than `MAX_ASKED` open questions to one node, more than `MAX_ANSWERING`
at once from one node (the asker hears NOT_STARTED, which is safe to retry).

Invariants: each question ends exactly once: with its answer, with PeerUnavailable (certainly not begun), with
OutcomeUnknown (the link fell, or the handler raised), or by `forget`. An answer counts only on the link that carried
the question.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from kraft.errors import OutcomeUnknown, PeerUnavailable
from kraft.peer_connection import PeerConnection
from kraft.peer_frames import MAX_FRAME_BYTES, Answer, Channel, FrameKind, Outcome, Request, encode_frame
from wire.errors import ErrorCode, RefusedError

MAX_PAYLOAD_BYTES: Final = MAX_FRAME_BYTES - 1024
MAX_ASKED: Final = 1024
MAX_ANSWERING: Final = 256

Question = tuple[PeerConnection, int]
OnAnswer = Callable[[bytes | Exception], None]
Reply = Callable[[Outcome, bytes], None]
Handler = Callable[[int, bytes, Reply], None]

_log = structlog.get_logger("kraft.peer")


class PeerRequests:
    """Used on the quorum's loop only; `connection_of` gives the established link to a node, or None."""

    def __init__(self, connection_of: Callable[[int], PeerConnection | None]) -> None:
        self._connection_of = connection_of
        self._next_correlation_id = 1
        self._asked: dict[PeerConnection, dict[int, OnAnswer]] = {}
        self._answering: dict[PeerConnection, int] = {}
        self._handlers: dict[int, Handler] = {}

    def set_handler(self, channel: Channel, handler: Handler) -> None:
        """Who answers requests on a channel: called with (node id, payload, reply), answers by calling reply once."""
        self._handlers[channel] = handler

    def ask(self, node_id: int, channel: Channel, payload: bytes, on_answer: OnAnswer) -> Question:
        """Send a question and return what `forget` needs; raises PeerUnavailable, or RefusedError where it is too long.

        `on_answer` is called once with the payload, or with PeerUnavailable or OutcomeUnknown.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            limit = f"a peer request holds at most {MAX_PAYLOAD_BYTES} bytes, this one has {len(payload)}"
            raise RefusedError(ErrorCode.MESSAGE_TOO_LARGE, limit)
        connection = self._connection_of(node_id)
        if connection is None:
            raise PeerUnavailable(f"no connection to node {node_id}")
        asked = self._asked.setdefault(connection, {})
        if len(asked) >= MAX_ASKED or connection.is_slow:
            raise PeerUnavailable(f"node {node_id} does not keep up: {len(asked)} requests wait for its answer")
        correlation_id = self._next_correlation_id
        self._next_correlation_id += 1
        asked[correlation_id] = on_answer
        connection.send(encode_frame(FrameKind.REQUEST, Request(correlation_id, channel, payload)))
        return connection, correlation_id

    def forget(self, question: Question) -> None:
        """Nobody waits for this answer any more; a late one is ignored."""
        connection, correlation_id = question
        self._asked.get(connection, {}).pop(correlation_id, None)

    async def call(self, node_id: int, channel: Channel, payload: bytes, *, timeout_s: float) -> bytes:
        """`ask` as a coroutine, for users on the quorum's own loop; a missing answer is OutcomeUnknown."""
        answered: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()

        def on_answer(answer: bytes | Exception) -> None:
            if not answered.done():
                answered.set_result(answer)

        question = self.ask(node_id, channel, payload, on_answer)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await answered
        except TimeoutError:
            raise OutcomeUnknown(f"node {node_id} did not answer within {timeout_s} s") from None
        finally:
            self.forget(question)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def received_answer(self, connection: PeerConnection, answer: Answer) -> None:
        """The other side answered; unknown ids belong to questions that were forgotten."""
        on_answer = self._asked.get(connection, {}).pop(answer.correlation_id, None)
        if on_answer is not None:
            on_answer(_value_of(connection.node_id, answer))

    def received_request(self, connection: PeerConnection, request: Request) -> None:
        """Hand a question to its channel's handler, or answer NOT_STARTED."""
        handler = self._handlers.get(request.channel)
        answering = self._answering.get(connection, 0)
        if handler is None or answering >= MAX_ANSWERING:
            reason = b"not ready for such requests yet" if handler is None else b"too many requests under way"
            _send_answer(connection, Answer(request.correlation_id, Outcome.NOT_STARTED, reason))
            return
        self._answering[connection] = answering + 1
        handler(connection.node_id, request.payload, self._reply_to(connection, request.correlation_id))

    def lost(self, connection: PeerConnection) -> None:
        """The link fell: whatever was asked on it may or may not have happened."""
        self._answering.pop(connection, None)
        for on_answer in self._asked.pop(connection, {}).values():
            on_answer(OutcomeUnknown(f"the connection to node {connection.node_id} was lost before its answer"))

    def _reply_to(self, connection: PeerConnection, correlation_id: int) -> Reply:
        def reply(outcome: Outcome, payload: bytes) -> None:
            if connection not in self._answering:
                return  # the link is gone, and the asker knows
            self._answering[connection] -= 1
            if len(payload) > MAX_PAYLOAD_BYTES:
                outcome, payload = Outcome.FAILED, f"its answer of {len(payload)} bytes is too long".encode()
            _send_answer(connection, Answer(correlation_id, outcome, payload))

        return reply


def _send_answer(connection: PeerConnection, answer: Answer) -> None:
    connection.send(encode_frame(FrameKind.ANSWER, answer))


def _value_of(node_id: int, answer: Answer) -> bytes | Exception:
    if answer.outcome is Outcome.DONE:
        return answer.payload
    message = f"node {node_id}: {answer.payload.decode(errors='replace')}"
    if answer.outcome is Outcome.NOT_STARTED:
        return PeerUnavailable(message)
    return OutcomeUnknown(message)
