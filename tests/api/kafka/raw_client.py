"""A Kafka connection for tests: requests as messages, or as any bytes at all."""

import asyncio
from typing import Any

from wire.connection import ClientConnection
from wire.messages import API, ApiKey
from wire.schema import Message

OPENED: list["RawClient"] = []
"""Closed at the end of each test, also of one that fails (conftest)."""


class RawClient:
    """One socket. Answers come in the order of the requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._wire = ClientConnection("raw")
        self._answers: list[Message] = []

    @classmethod
    async def connect(cls, port: int, ssl: Any = None) -> "RawClient":
        OPENED.append(cls(*await asyncio.open_connection("127.0.0.1", port, ssl=ssl)))
        return OPENED[-1]

    async def ask(self, key: ApiKey, request: Message, version: int | None = None) -> Any:
        self.send(key, request, version)
        return await self.answer()

    def send(self, key: ApiKey, request: Message, version: int | None = None) -> None:
        _, buffers = self._wire.send(key, API[key].versions.stop - 1 if version is None else version, request)
        self.writer.writelines(buffers)

    async def answer(self, timeout_s: float = 30.0) -> Any:
        while not self._answers:
            data = await asyncio.wait_for(self.reader.read(1 << 20), timeout_s)
            if not data:
                raise ConnectionResetError("closed by the node")
            self._answers += [message for _, message in self._wire.receive(data)]
        return self._answers.pop(0)

    async def closed(self, timeout_s: float = 30.0) -> bytes:
        """What still came before the node closed the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), timeout_s)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self.writer.transport.abort()
