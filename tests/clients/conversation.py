"""A real client in a process of its own, told in JSON lines what to do.

Every client has a driver (`drivers/`) in its own language that understands the same calls, so that one test says what
all of them must be able to do:

    start           bootstrap -> {"version": "2.2.4"}, and where it is so "sets_time": false, "reads_headers": false
    produce         topic, compression, acks, idempotent, records -> [[partition, offset], ...] in the order of records
    read            topic, partition, offset, count -> records: by assignment, from that offset on
    read_paused     topic, count -> {"while_paused", "after_resume"}: partitions 0 (paused) and 1 from their beginning
    ends            topic, partition -> [earliest, latest]
    offset_for_time topic, partition, timestamp -> offset
    join            group, topics, strategy, session_timeout_ms -> None: this process is a member from now on
    state           -> {"assignment": [[topic, partition], ...], "records": those since the last call}
    commit          -> None: the positions of all that `state` told so far
    leave           -> None
    and of admin: create_topic, list_topics, describe_topic, delete_topic, add_partitions, describe_config,
    alter_config, list_groups, describe_group, delete_group, delete_records, describe_cluster

A record is {"p": partition, "o": offset, "t": timestamp, "k": key, "v": value, "h": [[name, value], ...]}, bytes in
base64. An answer is {"result"}, {"error": what the client raised} or {"unsupported": why this client can't}.
"""

import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

CALL_S = 120.0


class ClientError(Exception):
    """What the client itself raised."""


class RealClient:
    """One driver's process."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
        self.name = name
        self.version = ""
        self.sets_time = True
        self.reads_headers = True
        self.log_file = log_file
        with log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._awaited = 0

    def start(self, bootstrap: str) -> None:
        """Say where the cluster is."""
        told = self.call("start", bootstrap=bootstrap)
        self.version = told["version"]
        self.sets_time = told.get("sets_time", True)
        self.reads_headers = told.get("reads_headers", True)

    def call(self, name: str, *, timeout_s: float = CALL_S, **arguments: Any) -> Any:
        """What the client returned; ClientError where it failed; a skipped test where it can't."""
        self.send(name, **arguments)
        return self.answer(timeout_s=timeout_s)

    def send(self, name: str, **arguments: Any) -> None:
        """Ask without waiting."""
        assert self._awaited == 0, "one call at a time"
        self._awaited += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, *, timeout_s: float = CALL_S) -> Any:
        """The answer to what was sent."""
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise ClientError(f"{self.name} did not answer within {timeout_s} s{self._last_words()}") from None
        self._awaited -= 1
        if not line:
            raise ClientError(f"{self.name} ended with {self.process.wait()}{self._last_words()}")
        answer = json.loads(line)
        if "unsupported" in answer:
            pytest.skip(f"cannot: {answer['unsupported']}")
        if "error" in answer:
            raise ClientError(f"{self.name}: {answer['error']}")
        return answer["result"]

    @property
    def is_usable(self) -> bool:
        """It runs, and no answer of an earlier test is still on its way."""
        return self.process.poll() is None and self._awaited == 0

    def kill(self) -> None:
        """As a machine that loses its power: no goodbye to anybody."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _last_words(self) -> str:
        return "\n" + self.log_file.read_text(encoding="utf-8", errors="replace")[-3000:]
