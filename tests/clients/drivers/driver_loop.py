"""What the Python drivers share: calls from stdin to methods, answers to stdout, and a member that is polled meanwhile.

Invariant: whatever else writes to stdout is kept out of the conversation; an exception is an answer.
"""

import base64
import json
import os
import queue
import sys
import threading
import traceback
from typing import Any

REQUEST_S = 60.0


class UnsupportedError(Exception):
    """This client has no such thing; the text says why."""


class Driver:
    """A client's driver: a method for each call. `poll` is called again and again while `is_member`."""

    is_member = False

    def poll(self) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"no {name.replace('_', ' ')} in this client")


def serve(driver: Driver) -> None:
    """Answer calls until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(calls,), daemon=True).start()
    while True:
        try:
            line = calls.get(block=not driver.is_member)
        except queue.Empty:
            driver.poll()
            continue
        if line is None:
            os._exit(0)  # nothing of a client's threads is worth waiting for
        answers.write(json.dumps(_answer(driver, json.loads(line))).encode() + b"\n")
        answers.flush()


def _read(calls: "queue.Queue[str | None]") -> None:
    for line in sys.stdin:
        calls.put(line)
    calls.put(None)


def _answer(driver: Driver, call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": getattr(driver, call.pop("call"))(**call)}
    except UnsupportedError as error:
        return {"unsupported": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a client raises is its answer
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def encoded(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(bytes(content)).decode()


def decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def told(partition: int, offset: int, timestamp: int, key: Any, value: Any, headers: Any) -> dict[str, Any]:
    """A record as the conversation has it."""
    return {
        "p": partition,
        "o": offset,
        "t": timestamp,
        "k": encoded(key),
        "v": encoded(value),
        "h": [[name, encoded(content)] for name, content in headers or ()],
    }
