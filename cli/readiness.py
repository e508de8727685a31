"""Asks a node whether it is ready, without an HTTP library: this stands between `kraft up` and its promise of speed."""

import json
import socket
from typing import Any, NamedTuple

from cli.data_directory import HOST, LocalNode

ANSWER_BYTES_MAX = 1 << 20


class Readiness(NamedTuple):
    """`answers` is False where nobody listens; `reasons` say what a node still waits for."""

    answers: bool
    ready: bool
    reasons: tuple[str, ...] = ()


def ask(node: LocalNode, *, timeout_s: float = 1.0) -> Readiness:
    """GET /readyz: 200 is ready, 503 carries the reasons why not."""
    try:
        answer = _get(node.http_port, "/readyz", timeout_s)
    except OSError:
        return Readiness(answers=False, ready=False, reasons=("its HTTP port does not answer yet",))
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return Readiness(answers=True, ready=False, reasons=("its HTTP port is used by something else",))
    return Readiness(answers=True, ready=words[1] == b"200", reasons=_reasons(body))


def _get(port: int, path: str, timeout_s: float) -> bytes:
    with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode("ascii"))
        received = bytearray()
        while len(received) < ANSWER_BYTES_MAX and (piece := connection.recv(65536)):
            received += piece
        return bytes(received)


def _reasons(body: bytes) -> tuple[str, ...]:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return ()
    reasons = document.get("reasons", ()) if isinstance(document, dict) else ()
    return tuple(str(reason) for reason in reasons)
