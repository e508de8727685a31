"""A plain HTTP client that never hides what happened: nothing is sent twice, every failure keeps its meaning.

Owns one connection to one node. A connection that could not be opened is `NotSentError` (nothing left this process);
any other failure is `DoubtfulError`. Refuses redirects and retries: a test wants to know.
"""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.faults.history import Creation, Final, Outcome, Poll, Send
from tests.faults.record_batches import NOBODY, Producer, decode, encode

RECORD_BATCH = "application/vnd.kafka.recordbatch"
TOPICS = "/v3/clusters/-/topics"


class NotSentError(Exception):
    """No connection: the node cannot have seen the request."""


class DoubtfulError(Exception):
    """The connection failed or stayed silent after the request may have left; or a read was refused for now."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One thread's connection to one node."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 10.0) -> None:
        self.host = host
        self.port = port
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = self._connected()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DoubtfulError(f"{type(error).__name__}: {error}") from error

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout_s)
            try:
                connection.connect()
            except OSError as error:
                raise NotSentError(str(error)) from error
            self._connection = connection
        return self._connection

    # --- produce ------------------------------------------------------------------------------------------------------

    def send_batch(
        self,
        topic: str,
        partition: int,
        values: tuple[str, ...],
        *,
        acks: str = "all",
        timeout_ms: int = 5000,
        producer: Producer = NOBODY,
    ) -> tuple[Send, Answer | None]:
        """One record batch as it will lie in the log; what became of it, and the answer if there was one."""
        began_s = time.monotonic()
        path = f"{TOPICS}/{topic}/partitions/{partition}/records?acks={acks}&timeout={timeout_ms}"
        answer: Answer | None = None
        offsets: tuple[int, ...] = ()
        try:
            batch = encode(values, timestamp_ms=int(time.time() * 1000), producer=producer)
            answer = self.request("POST", path, batch, {"Content-Type": RECORD_BATCH})
            outcome = Outcome.ACKNOWLEDGED if answer.status == 200 else _outcome_told(answer.json())
        except NotSentError:
            outcome = Outcome.REFUSED
        except DoubtfulError:
            outcome = Outcome.UNKNOWN
        if answer is not None and outcome is Outcome.ACKNOWLEDGED:
            base_offset = answer.json()["base_offset"]
            offsets = tuple(range(base_offset, base_offset + len(values)))
        return Send(f"{topic}-{partition}", values, began_s, time.monotonic(), outcome, offsets), answer

    def send_entries(
        self, topic: str, by_partition: Mapping[int, tuple[str, ...]], *, timeout_ms: int = 5000
    ) -> list[Send]:
        """`records:batch` over several partitions: one send for each."""
        entries = [
            {"id": value, "partition_id": partition, "value": {"type": "STRING", "data": value}}
            for partition, values in by_partition.items()
            for value in values
        ]
        began_s = time.monotonic()
        told: dict[str, tuple[Outcome, int]] = {}
        everything = Outcome.UNKNOWN
        try:
            path = f"{TOPICS}/{topic}/records:batch?acks=all&timeout={timeout_ms}"
            answer = self.request("POST", path, json.dumps({"entries": entries}).encode())
            if answer.status == 207:
                body = answer.json()
                told = {entry["id"]: (Outcome.ACKNOWLEDGED, entry["offset"]) for entry in body["successes"]}
                told |= {entry["id"]: (_outcome_told(entry), -1) for entry in body["failures"]}
            else:
                everything = _outcome_told(answer.json())
        except NotSentError:
            everything = Outcome.REFUSED
        except DoubtfulError:
            pass
        ended_s = time.monotonic()
        sends = []
        for partition, values in by_partition.items():
            outcomes = {told.get(value, (everything, -1))[0] for value in values}
            assert len(outcomes) == 1, f"one batch, several outcomes: {outcomes}"
            outcome = outcomes.pop()
            offsets = tuple(told[value][1] for value in values) if outcome is Outcome.ACKNOWLEDGED else ()
            sends.append(Send(f"{topic}-{partition}", values, began_s, ended_s, outcome, offsets))
        return sends

    def new_producer(self) -> Producer | None:
        """A producer id of its own; None where the cluster has none to give just now."""
        try:
            answer = self.request("POST", "/v3/clusters/-/producers", b"{}")
        except (NotSentError, DoubtfulError):
            return None
        if answer.status == 503:
            return None
        assert answer.status in {200, 201}, (answer.status, answer.body[:500])
        return Producer(answer.json()["producer_id"], answer.json()["producer_epoch"], 0)

    # --- read ---------------------------------------------------------------------------------------------------------

    def poll(self, topic: str, partition: int, offset: int, *, timeout_ms: int = 0) -> Poll | None:
        """Everything that one fetch brings; None where it was not answered."""
        began_s = time.monotonic()
        path = f"{TOPICS}/{topic}/partitions/{partition}/records?offset={offset}&timeout={timeout_ms}&format=string"
        try:
            answer = self.get(path)
        except (NotSentError, DoubtfulError):
            return None
        if answer.status != 200:
            assert answer.status in {404, 503, 507}, (answer.status, answer.body[:500])  # 404: not heard of it yet
            return None
        body = answer.json()
        records = tuple((record["offset"], record["value"]["data"]) for record in body["records"])
        return Poll(f"{topic}-{partition}", began_s, time.monotonic(), offset, records, body["high_watermark"])

    def read_all(self, topic: str, partition: int, *, start: int | None = None) -> Final:
        """The whole partition, as record batches. DoubtfulError where it cannot be read just now."""
        offset = "earliest" if start is None else str(start)
        first: int | None = start
        records: list[tuple[int, str]] = []
        while True:
            path = f"{TOPICS}/{topic}/partitions/{partition}/records?offset={offset}"
            answer = self.request("GET", path, None, {"Accept": RECORD_BATCH})
            if answer.status == 503:
                raise DoubtfulError(f"{path}: {answer.body[:500]!r}")
            assert answer.status == 200, (answer.status, answer.body[:500])
            first = int(answer.headers["Log-Start-Offset"]) if first is None else first
            at = first if not records else records[-1][0] + 1
            records += [record for record in decode(answer.body) if record[0] >= at]
            offset = answer.headers["Stream-Next-Offset"]
            if answer.headers["Stream-Up-To-Date"] == "true":
                return Final(f"{topic}-{partition}", tuple(records), first)

    # --- topics -------------------------------------------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        configs: Mapping[str, str] | None = None,
        *,
        replication_factor: int | None = None,
    ) -> Creation:
        """Where no factor is given, with the cluster's own."""
        wanted = {
            "topic_name": name,
            "partitions_count": partitions,
            "configs": [{"name": key, "value": value} for key, value in (configs or {}).items()],
            **({} if replication_factor is None else {"replication_factor": replication_factor}),
        }
        try:
            answer = self.request("POST", TOPICS, json.dumps(wanted).encode())
        except NotSentError:
            return Creation(name, Outcome.REFUSED)
        except DoubtfulError:
            return Creation(name, Outcome.UNKNOWN)
        if answer.status == 201:
            return Creation(name, Outcome.ACKNOWLEDGED, answer.json()["topic_id"])
        says_nothing_changed = answer.status < 500 or "nothing was changed" in answer.json()["message"]
        return Creation(name, Outcome.REFUSED if says_nothing_changed else Outcome.UNKNOWN)

    def topics(self) -> dict[str, str]:
        """Name to topic id."""
        answer = self.get(TOPICS)
        assert answer.status == 200, (answer.status, answer.body[:500])
        return {topic["topic_name"]: topic["topic_id"] for topic in answer.json()["data"]}


def _outcome_told(error: Mapping[str, Any]) -> Outcome:
    return Outcome.REFUSED if error.get("outcome") == "not_written" else Outcome.UNKNOWN
