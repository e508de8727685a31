"""The cheapest HTTP client that can be had in Python: a socket, requests that were encoded before, Content-Length.

A bench must not measure its own client, and on two cores the client's work is taken from the broker's.
"""

import json
import socket
from types import TracebackType
from typing import Any, NamedTuple, Self

RECEIVE_BYTES = 1 << 20
TIMEOUT_S = 60


class Response(NamedTuple):
    """`body` is a view of the connection's own buffer, good until the next receive."""

    status: int
    head: bytes
    body: memoryview

    def header(self, name: str) -> str | None:
        start = self.head.lower().find(b"\r\n" + name.lower().encode() + b":")
        if start < 0:
            return None
        start += len(name) + 3
        return self.head[start : self.head.find(b"\r\n", start)].decode().strip()

    def json(self) -> Any:
        return json.loads(bytes(self.body))


def encode_request(
    method: str, path: str, body: bytes = b"", content_type: str = "application/json", *, accept: str = ""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    if accept:
        lines.append(f"Accept: {accept}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One keep-alive connection; `send` and `receive` may be apart, answers come in order."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(RECEIVE_BYTES)
        self._filled = 0
        self.bytes_received = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> Response:
        """The next answer. One request is outstanding at a time, so nothing follows it in the buffer."""
        self._filled = 0
        while (head_end := self._buffer.find(b"\r\n\r\n", 0, self._filled)) < 0:
            self._fill()
        head = bytes(self._buffer[: head_end + 2])
        status = int(head[9:12])
        start = head_end + 4
        at = head.lower().find(b"\r\ncontent-length:")
        if at < 0 and status != 204:
            raise OSError(f"an answer without Content-Length: {head!r}")
        end = start + (int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0)
        if end > len(self._buffer):
            self._buffer = self._buffer[: self._filled] + bytearray(end - self._filled)
        while self._filled < end:
            self._fill()
        self.bytes_received += end
        return Response(status, head, memoryview(self._buffer)[start:end])

    def _fill(self) -> None:
        received = self._socket.recv_into(memoryview(self._buffer)[self._filled :])
        if not received:
            raise OSError("the node closed the connection")
        self._filled += received

    def ask(self, request: bytes) -> Response:
        self.send(request)
        return self.receive()

    def get(self, path: str) -> Response:
        return self.ask(encode_request("GET", path))

    def post(self, path: str, document: object) -> Response:
        return self.ask(encode_request("POST", path, json.dumps(document).encode()))


def expect(response: Response, *statuses: int) -> Response:
    """The response if its status is one of these; ends the bench with what the node said otherwise."""
    if response.status not in statuses:
        raise SystemExit(f"bench: the node answered {response.status}: {bytes(response.body[:500])!r}")
    return response


def create_topic(
    connection: Connection, name: str, partitions: int = 1, replication_factor: int = 1, **configs: str
) -> None:
    document = {
        "topic_name": name,
        "partitions_count": partitions,
        "replication_factor": replication_factor,
        "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
    }
    expect(connection.post("/v3/clusters/-/topics", document), 201)


RECORD_BATCH = "application/vnd.kafka.recordbatch"


def partition_records(topic: str, partition: int) -> str:
    """Where the records of a partition are, to write and to read."""
    return f"/v3/clusters/-/topics/{topic}/partitions/{partition}/records"


def produce_batches(topic: str, partition: int, batches: bytes, *, acks: str) -> bytes:
    """The request that puts record batches into a partition as they are."""
    return encode_request("POST", f"{partition_records(topic, partition)}?acks={acks}", batches, RECORD_BATCH)


def fetch_batches(topic: str, partition: int, offset: int, *, timeout_ms: int = 0) -> bytes:
    """The request for record batches as they lie in the log, at most 1 MiB or the first of them."""
    query = f"offset={offset}&max_bytes=1048576&timeout={timeout_ms}"
    return encode_request("GET", f"{partition_records(topic, partition)}?{query}", accept=RECORD_BATCH)
