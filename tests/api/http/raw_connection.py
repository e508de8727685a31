"""A socket that speaks HTTP badly, slowly or in pieces, as a test wants."""

import asyncio
import contextlib
from typing import NamedTuple, Self


class Head(NamedTuple):
    status: int
    headers: dict[str, str]


class RawConnection:
    """`async with RawConnection(port) as connection`."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_head(self, method: str, path: str, *headers: str) -> None:
        await self.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode())

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def read_head(self) -> Head:
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return Head(int(lines[0].split(" ")[1]), headers)

    async def read_body(self, head: Head) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readexactly(int(head.headers["content-length"]))

    async def read_chunk(self) -> bytes:
        async with asyncio.timeout(10):
            size = int(await self.reader.readline(), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Send bytes; the status and body of what comes back."""
        await self.send(data)
        head = await self.read_head()
        return head.status, await self.read_body(head)

    async def is_closed(self, *, within_s: float = 10) -> bool:
        """Whether the other side closes before the time is up."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True
