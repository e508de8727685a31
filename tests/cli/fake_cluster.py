"""A cluster made of one thread: the bodies of the HTTP API, kept in memory, with failures on demand."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.cli.fake_replication import FakeReplication
from wire.record_batch import iterate_batches

Answer = tuple[int, Any]
Rule = Callable[[str, str], Answer | str | None]


class FakeCluster:
    """Serves on a port of its own. `rules` see (method, path) first: an answer, "drop" (hang up) or None."""

    def __init__(self) -> None:
        self.topics: dict[str, list[list[dict[str, Any]]]] = {}
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str]] = []
        self.leaderless: set[int] = set()
        self.producers: dict[tuple[int, str, int], tuple[int, int]] = {}
        """By producer id, topic and partition: the last batch's base sequence and base offset."""
        self.gives_producer_ids = True
        self.hang_up_after: list[bool] = []
        """For each append that comes: whether its answer is lost on the way."""
        self.damaged: dict[int, tuple[int, int]] = {}
        """The offsets [from, to) of a partition that its disk has lost."""
        self.replication = FakeReplication(self)
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = cluster.answer(self.command, self.path, body)
                if found == "drop":
                    self.close_connection = True
                    return
                status, document = found
                content = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815 - the base class's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add_topic(self, name: str, partitions: int) -> None:
        self.topics[name] = [[] for _ in range(partitions)]

    def add_record(self, name: str, partition: int, value: str, *, key: str | None = None) -> None:
        log = self.topics[name][partition]
        log.append(
            {
                "partition_id": partition,
                "offset": len(log),
                "timestamp": 1_000 * len(log),
                "timestamp_type": "CREATE_TIME",
                "headers": [],
                "key": None if key is None else {"type": "STRING", "data": key},
                "value": {"type": "STRING", "data": value},
            }
        )

    def values(self, name: str) -> list[str]:
        return [record["value"]["data"] for log in self.topics[name] for record in log]

    # -- answers ----------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, body: bytes) -> Answer | str:
        self.requests.append((method, target))
        for rule in self.rules:
            if (found := rule(method, target)) is not None:
                return found
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        document = json.loads(body) if body[:1] == b"{" else None
        path = url.path.removeprefix("/v3/clusters/-")
        if (replicated := self.replication.answer(method, target, document)) is not None:
            return replicated
        if path == "/topics":
            return (
                self._create(document) if method == "POST" else (200, {"data": [self._topic(t) for t in self.topics]})
            )
        if path == "/producers" and self.gives_producer_ids:
            return 200, {"producer_id": 1000 + len(self.requests), "producer_epoch": 0}
        match = re.fullmatch(r"/topics/([^/]+)(/.*)?", path)
        if match is None:
            return 404, {"error_code": 404, "message": f"no such route: {path}"}
        name, rest = unquote(match[1]), match[2] or ""
        if name not in self.topics:
            return 404, {"error_code": 40401, "message": f"topic '{name}' does not exist: create it, or check its name"}
        answer = self._about_topic(method, name, rest, query, document, body)
        is_append = method == "POST" and rest.endswith("/records") and rest != "/records"
        return "drop" if is_append and self.hang_up_after and self.hang_up_after.pop(0) else answer

    def _about_topic(self, method: str, name: str, rest: str, query: Any, document: Any, body: bytes) -> Answer:
        if rest == "" and method == "DELETE":
            del self.topics[name]
            return 204, None
        if rest == "" and method == "PATCH":
            self.topics[name] += [[] for _ in range(document["partitions_count"] - len(self.topics[name]))]
        if rest == "":
            return 200, self._topic(name)
        if rest == "/configs":
            return 200, {"data": [{"name": "retention.ms", "value": "1", "source": "TOPIC", "is_default": False}]}
        if rest == "/configs:alter":
            return 204, None
        if rest == "/partitions":
            return 200, {"data": [self._partition(name, index) for index in range(len(self.topics[name]))]}
        if rest == "/partitions/-/records:consume":
            return self._consume(name, document)
        partition, _, what = rest.removeprefix("/partitions/").partition("/")
        log = self.topics[name][int(partition)]
        if what == "records":
            return self._append(name, int(partition), log, body)
        earliest = log[0]["offset"] if log else 0
        found = {"earliest_offset": earliest, "latest_offset": len(log)}
        later = [r["offset"] for r in log if r["timestamp"] >= int(query.get("timestamp", 0))]
        return 200, found | {"offset": later[0] if later else len(log)}

    def _create(self, document: Any) -> Answer:
        if document["topic_name"] in self.topics:
            return 400, {"error_code": 40002, "message": f"topic '{document['topic_name']}' exists"}
        if document.get("replication_factor", 1) > 1:
            return 400, {"error_code": 40002, "message": "replication_factor must be 1: replication comes later"}
        self.add_topic(document["topic_name"], document.get("partitions_count", 1))
        return 201, self._topic(document["topic_name"])

    def _topic(self, name: str) -> dict[str, Any]:
        return {
            "kind": "KafkaTopic",
            "metadata": {"self": "http://..."},
            "topic_name": name,
            "topic_id": "AAAAAAAAAAAAAAAAAAAAAA",
            "partitions_count": len(self.topics[name]),
            "replication_factor": 1,
            "partitions": {"related": "http://..."},
        }

    def _partition(self, name: str, index: int) -> dict[str, Any]:
        log = self.topics[name][index]
        gone = index in self.leaderless
        return {
            "partition_id": index,
            "leader_id": None if gone else 1,
            "leader_epoch": 0,
            "replica_ids": [1],
            "in_sync_replica_ids": [1],
            "eligible_leader_replica_ids": [],
            "log_start_offset": None if gone else log[0]["offset"] if log else 0,
            "high_watermark": None if gone else len(log),
            "log_end_offset": None if gone else len(log),
            "size_bytes": None if gone else 61,
        }

    def _append(self, name: str, partition: int, log: list[dict[str, Any]], body: bytes) -> Answer:
        first = len(log)
        for batch in iterate_batches(body):
            assert batch.crc_is_valid()
            if batch.producer_id >= 0:
                key = (batch.producer_id, name, partition)
                sequence, offset = self.producers.get(key, (-1, -1))
                if batch.base_sequence == sequence:
                    return 200, {"base_offset": offset, "last_offset": offset + batch.record_count - 1, "timestamp": -1}
                self.producers[key] = (batch.base_sequence, first)
            for record in batch.records():
                key = None if record.key is None else record.key.decode()
                self.add_record(name, partition, (record.value or b"").decode(errors="replace"), key=key)
        return 200, {"base_offset": first, "last_offset": len(log) - 1, "timestamp": -1}

    def _consume(self, name: str, document: Any) -> Answer:
        parts: list[dict[str, Any]] = []
        left = document["max_poll_records"]
        for position in document["offsets"]:
            partition, offset = position["partition_id"], position["offset"]
            if partition in self.leaderless:
                parts.append({"partition_id": partition, "error_code": 50003, "message": "no leader at the moment"})
                continue
            log = self.topics[name][partition]
            earliest = log[0]["offset"] if log else 0
            if not earliest <= offset <= earliest + len(log):
                return 416, {"error_code": 41601, "message": f"offset {offset} is out of range"}
            lost_from, lost_to = self.damaged.get(partition, (0, 0))
            if lost_from <= offset < lost_to:
                lost = {"partition_id": partition, "error_code": 50002, "message": "damaged", "next_offset": lost_to}
                if len(document["offsets"]) == 1:
                    return 500, lost
                parts.append(lost)
                continue
            records = [record for record in log if record["offset"] >= offset][:left]
            records = (
                [record for record in records if not lost_from <= record["offset"]] if offset < lost_from else records
            )
            left -= len(records)
            following = records[-1]["offset"] + 1 if records else offset
            parts.append(
                {"partition_id": partition, "next_offset": following, "high_watermark": len(log), "records": records}
            )
        return 200, {"partition_data_list": parts}
