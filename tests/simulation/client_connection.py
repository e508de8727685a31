"""A client's connection to one node: many requests under way at a time, each answered or lost."""

import asyncio
from typing import Any, Final

from wire.connection import ClientConnection
from wire.messages import ApiKey

CONNECT_TIMEOUT_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 3.0


class PipelinedConnection(asyncio.Protocol):
    """Made by `connect`; a request that is not answered in time ends it, as it does with any Kafka client."""

    def __init__(self) -> None:
        self._wire = ClientConnection("client")
        self._transport: asyncio.Transport | None = None
        self._awaited: dict[int, asyncio.Future[Any]] = {}

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, api_key: ApiKey, version: int, request: Any) -> "asyncio.Future[Any]":
        """The answer, or ConnectionResetError, is to come."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            answer.set_exception(ConnectionResetError("the connection is closed"))
            answer.add_done_callback(heard)
            return answer
        correlation_id, buffers = self._wire.send(api_key, version, request)
        self._awaited[correlation_id] = answer
        answer.add_done_callback(heard)
        self._transport.writelines(buffers)
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for correlation_id, answer in self._wire.receive(data):
            awaited = self._awaited.pop(correlation_id)
            if not awaited.done():
                awaited.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        awaited, self._awaited = self._awaited, {}
        for answer in awaited.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection was lost"))


def heard(answer: "asyncio.Future[Any]") -> BaseException | None:
    """Its error, of which somebody knows now: not every answer is waited for to its end."""
    return None if answer.cancelled() else answer.exception()


async def connect(port: int) -> PipelinedConnection:
    """Raises OSError, or TimeoutError where nobody answers."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, connection = await asyncio.get_running_loop().create_connection(PipelinedConnection, "127.0.0.1", port)
    return connection
