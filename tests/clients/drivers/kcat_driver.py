"""kcat as one of the real clients: each call is a run of it, a member is one that stays.

Its program is the first argument: `path`, or `folder of its libraries:path`.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from driver_loop import REQUEST_S, Driver, UnsupportedError, decoded, serve, told

FORMAT = "%p %o %T %K %S\n%k%s"
COMMIT_INTERVAL_MS = 100
_DELIVERED = re.compile(rb"Message delivered to partition (\d+) \(offset (-?\d+)\)")
_REBALANCED = re.compile(rb"rebalanced(?:: incremental (assignment|revoke)\w* of .*?)? \(memberid [^)]*\): (.*)")
_PARTITION = re.compile(rb"([^ ,]+) \[(\d+)\]")
_PR_SET_PDEATHSIG = 1


class KcatDriver(Driver):
    def start(self, bootstrap: str) -> dict[str, Any]:
        library, _, self.program = sys.argv[1].rpartition(":")
        self.environment = dict(os.environ) | ({"LD_LIBRARY_PATH": library} if library else {})
        self.bootstrap = bootstrap
        version = subprocess.run(
            [self.program, "-V"], capture_output=True, env=self.environment, text=True, check=False
        )
        found = re.search(r"Version (\S+).*librdkafka ([\d.]+)", version.stdout + version.stderr, re.DOTALL)
        named = f"{found[1]} (librdkafka {found[2]})" if found else "?"
        return {"version": named, "sets_time": False, "reads_headers": False}

    def _run(
        self, *arguments: str, stdin: bytes = b"", timeout_s: float = REQUEST_S
    ) -> "subprocess.CompletedProcess[bytes]":
        command = [self.program, "-b", self.bootstrap, "-X", "topic.metadata.refresh.interval.ms=2000", *arguments]
        ended = subprocess.run(
            command, input=stdin, capture_output=True, env=self.environment, check=False, timeout=timeout_s
        )
        if ended.returncode != 0:
            raise RuntimeError(ended.stderr.decode(errors="replace")[-500:])
        return ended

    def produce(self, topic: str, compression: str, acks: str, records: list[Any], *, idempotent: bool) -> Any:
        if any(record["h"] for record in records):
            raise UnsupportedError("writes the same headers, as text, to all records of a run, and cannot set times")
        if any(record["v"] is None or record["k"] is None for record in records):
            raise UnsupportedError("writes nulls for all empty keys and values, or for none")
        placed: dict[int, Any] = {}
        separator, end = secrets.token_hex(8), secrets.token_hex(8)
        for partition in sorted({record["p"] for record in records}):
            chosen = [number for number, record in enumerate(records) if record["p"] == partition]
            lines = [
                (decoded(records[number]["k"]) or b"") + separator.encode() + (decoded(records[number]["v"]) or b"")
                for number in chosen
            ]
            ended = self._run(
                *("-P", "-t", topic, "-p", str(partition), "-K", separator, "-D", end, "-vv"),
                *("-z", compression, "-X", f"acks={acks}", "-X", f"enable.idempotence={str(idempotent).lower()}"),
                *("-X", "message.max.bytes=2000000", "-X", "delivery.timeout.ms=100000", "-X", "linger.ms=20"),
                stdin=end.encode().join(lines),
                timeout_s=110,
            )
            told_offsets = [[int(one[1]), int(one[2])] for one in _DELIVERED.finditer(ended.stderr)]
            placed |= dict(zip(chosen, sorted(told_offsets) or [[partition, -1]] * len(chosen), strict=True))
        return [placed[number] for number in range(len(records))]

    def read(self, topic: str, partition: int, offset: int, count: int) -> Any:
        where = ("-t", topic, "-p", str(partition), "-o", str(offset), "-c", str(count))
        return _records(bytearray(self._run("-C", "-q", *where, "-f", FORMAT).stdout))

    def read_paused(self, topic: str, count: int) -> Any:
        raise UnsupportedError("cannot pause")

    def ends(self, topic: str, partition: int) -> list[int]:
        return [self.offset_for_time(topic, partition, -2), self.offset_for_time(topic, partition, -1)]

    def offset_for_time(self, topic: str, partition: int, timestamp: int) -> int:
        found = self._run("-Q", "-t", f"{topic}:{partition}:{timestamp}").stdout
        return int(found.split()[-1])

    # -- a member of a group: a kcat that stays, and two threads that read what it prints

    def join(self, group: str, topics: list[str], strategy: str, session_timeout_ms: int) -> None:
        self.assigned: set[tuple[str, int]] = set()
        self.printed = bytearray()
        self.lock = threading.Lock()
        chosen = "cooperative-sticky" if strategy == "cooperative" else strategy
        self.member = subprocess.Popen(
            [
                *(self.program, "-b", self.bootstrap, "-G", group, "-u", "-f", FORMAT),
                *("-X", "auto.offset.reset=earliest", "-X", f"session.timeout.ms={session_timeout_ms}"),
                *("-X", "heartbeat.interval.ms=500", "-X", f"partition.assignment.strategy={chosen}"),
                *("-X", f"auto.commit.interval.ms={COMMIT_INTERVAL_MS}", *topics),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - a system call, no lock of any thread
        )
        threading.Thread(target=self._read_records, daemon=True).start()
        threading.Thread(target=self._read_rebalances, daemon=True).start()

    def _read_records(self) -> None:
        assert self.member.stdout is not None
        while data := os.read(self.member.stdout.fileno(), 1 << 20):
            with self.lock:
                self.printed += data

    def _read_rebalances(self) -> None:
        assert self.member.stderr is not None
        for line in self.member.stderr:
            sys.stderr.buffer.write(line)
            if found := _REBALANCED.search(line):
                named = {(name.decode(), int(number)) for name, number in _PARTITION.findall(found[2])}
                with self.lock:
                    is_lost = found[1] == b"revoke" or found[2].startswith(b"revoked")
                    self.assigned = self.assigned - named if is_lost else self.assigned | named

    def state(self) -> Any:
        with self.lock:
            assignment = [list(one) for one in sorted(self.assigned)]
            return {"assignment": assignment, "records": _records(self.printed)}

    def commit(self) -> None:
        time.sleep(10 * COMMIT_INTERVAL_MS / 1000)  # sleeps: kcat commits by itself, and does not say when

    def leave(self) -> None:
        self.member.send_signal(signal.SIGTERM)
        self.member.wait(REQUEST_S)

    # -- admin

    def list_topics(self) -> list[str]:
        return sorted(one["topic"] for one in json.loads(self._run("-L", "-J").stdout)["topics"])

    def describe_cluster(self) -> list[int]:
        return sorted(one["id"] for one in json.loads(self._run("-L", "-J").stdout)["brokers"])


def _records(printed: bytearray) -> list[dict[str, Any]]:
    """The whole records at the beginning of what was printed, which are taken out of it."""
    found = []
    while (line_end := printed.find(b"\n")) >= 0:
        partition, offset, timestamp, key_size, value_size = map(int, printed[:line_end].split())
        key_end = line_end + 1 + max(key_size, 0)
        value_end = key_end + max(value_size, 0)
        if value_end > len(printed):
            break
        key = None if key_size < 0 else bytes(printed[line_end + 1 : key_end])
        value = None if value_size < 0 else bytes(printed[key_end:value_end])
        found.append(told(partition, offset, timestamp, key, value, ()))
        del printed[:value_end]
    return found


def _die_with_parent() -> None:
    """Who kills this driver kills the member."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    serve(KcatDriver())
