"""HTTP produce and fetch on one node: records a second, and what a million records cost the broker in CPU.

Run it as a module, `python -m scripts.bench.http`: as a file it would stand in for Python's own `http`.

Batches of 1,000 records of 100 bytes, encoded beforehand; each case runs for `--seconds` with `--connections` requests
in flight from one client process. Wall-clock rates depend on the machine's neighbours; `cpu_s_per_million` (the
broker's user and system time) and its inverse, records per CPU-second, hardly do.
"""

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from scripts.bench.nodes import Cluster, Node, cluster
from scripts.bench.raw_http import (
    RECORD_BATCH,
    Connection,
    Response,
    create_topic,
    encode_request,
    expect,
    partition_records,
    produce_batches,
)
from scripts.bench.report import bound, parser, show
from wire.record_batch import build_batch

RECORDS_PER_BATCH: Final = 1000
RECORD_BYTES: Final = 100
WARM_UP_REQUESTS: Final = 30
RECORDS_PER_S_MIN: Final = 150_000


class Case(NamedTuple):
    """One measured way in or out; `request` gives the n-th request."""

    name: str
    request: Callable[[int], bytes]
    status: int
    records: int = RECORDS_PER_BATCH
    is_fetch: bool = False


def value(number: int) -> str:
    """100 bytes of text that differ from record to record."""
    return f"{number:08d} " + "the quick brown fox jumps over the lazy dog, " * 2 + "f"


def produce_cases(topic: str) -> list[Case]:
    values = [value(number) for number in range(RECORDS_PER_BATCH)]
    assert {len(text) for text in values} == {RECORD_BYTES}
    v3 = "/v3/clusters/-/topics/" + topic
    bodies = {
        "v3 records:batch STRING": (
            f"{v3}/records:batch",
            "application/json",
            json.dumps(
                {
                    "entries": [
                        {"id": str(i), "value": {"type": "STRING", "data": text}} for i, text in enumerate(values)
                    ]
                }
            ).encode(),
            207,
        ),
        "v3 records:batch BINARY": (
            f"{v3}/records:batch",
            "application/json",
            json.dumps(
                {
                    "entries": [
                        {"id": str(i), "value": {"type": "BINARY", "data": base64.b64encode(text.encode()).decode()}}
                        for i, text in enumerate(values)
                    ]
                }
            ).encode(),
            207,
        ),
        "v2 JSON": (
            f"/topics/{topic}",
            "application/vnd.kafka.json.v2+json",
            json.dumps({"records": [{"value": text[:-2]} for text in values]}).encode(),
            200,
        ),
    }
    return [
        Case(f"{name} acks={acks}", constant(encode_request("POST", f"{path}?acks={acks}", body, content_type)), status)
        for name, (path, content_type, body, status) in bodies.items()
        for acks in ("1", "all")
    ]


def produce_whole_cases(topic: str) -> list[Case]:
    """For comparison: the same records as the record batch that the log holds."""
    batch = bytes(build_batch([(None, value(i).encode(), (), 1_700_000_000_000) for i in range(RECORDS_PER_BATCH)]))
    return [
        Case(f"v3 record batch acks={acks}", constant(produce_batches(topic, 0, batch, acks=acks)), 200)
        for acks in ("1", "all")
    ]


def constant(request: bytes) -> Callable[[int], bytes]:
    return lambda _: request


def fetch_cases(topic: str, batches: int) -> list[Case]:
    def case(name: str, accept: str, query: str = "", batches_each: int = 1) -> Case:
        # `max_bytes` a little above what the wanted number of batches takes: 1,000 records are 109 to 112 KB.
        query = f"max_bytes={batches_each * 115_000}{query}"
        prepared = [
            encode_request(
                "GET", f"{partition_records(topic, 0)}?offset={first * RECORDS_PER_BATCH}&{query}", accept=accept
            )
            for first in range(0, batches - batches_each + 1, batches_each)
        ]
        return Case(
            name, lambda number: prepared[number % len(prepared)], 200, batches_each * RECORDS_PER_BATCH, is_fetch=True
        )

    return [
        case("v3 fetch JSON auto", "application/json"),
        case("v3 fetch JSON auto, 9 batches", "application/json", batches_each=9),
        case("v3 fetch JSON string", "application/json", "&format=string"),
        case("v3 fetch JSON binary", "application/json", "&format=binary"),
        case("v3 fetch MessagePack", "application/msgpack"),
        case("v3 fetch record batches", RECORD_BATCH),
    ]


def drive(connections: Sequence[Connection], case: Case, *, seconds: float, requests_max: int) -> tuple[int, float]:
    """One request in flight on each connection until the time is up: (answers, seconds)."""
    began_s = time.perf_counter()
    deadline_s = began_s + seconds
    for number, connection in enumerate(connections):
        connection.send(case.request(number))
    sent, received = len(connections), 0
    while received < sent:
        connection = connections[received % len(connections)]
        check(connection.receive(), case)
        received += 1
        if sent < requests_max and time.perf_counter() < deadline_s:
            connection.send(case.request(sent))
            sent += 1
    return received, time.perf_counter() - began_s


def check(response: Response, case: Case) -> None:
    if response.status != case.status:
        expect(response, case.status)


def measure(node: Node, connections: Sequence[Connection], case: Case, seconds: float) -> dict[str, object]:
    drive(connections, case, seconds=seconds, requests_max=WARM_UP_REQUESTS)
    verify(connections[0].ask(case.request(0)), case)
    cpu_s, client_cpu_s = node.cpu_seconds(), time.process_time()
    requests, elapsed_s = drive(connections, case, seconds=seconds, requests_max=1_000_000)
    cpu_s, client_cpu_s = node.cpu_seconds() - cpu_s, time.process_time() - client_cpu_s
    records = requests * case.records
    return {
        "case": case.name,
        "records_per_s": round(records / elapsed_s),
        "MB_per_s": round(records * RECORD_BYTES / elapsed_s / 1e6, 1),
        "cpu_s_per_million": round(cpu_s / records * 1e6, 3),
        "records_per_cpu_s": round(records / max(cpu_s, 0.01)),
        "client_cpu_s_per_million": round(client_cpu_s / records * 1e6, 3),
        "bound": bound(records / max(cpu_s, 0.01), at_least=RECORDS_PER_S_MIN),
    }


def verify(response: Response, case: Case) -> None:
    """One answer is read in full, so that no rate is measured of something that is not there."""
    check(response, case)
    if case.is_fetch:
        found = int(response.header("Stream-Next-Offset") or 0)
        if response.header("Content-Type") == "application/json":
            found = len(response.json()["records"])
    elif "records:batch" in case.name:
        found = len(response.json()["successes"])
    elif case.name.startswith("v2"):
        found = len(response.json()["offsets"])
    else:
        found = response.json()["record_count"]
    if found != case.records:
        raise SystemExit(f"bench: {case.name}: {found} records where {case.records} were asked for")


def fill(connection: Connection, topic: str, batches: int) -> None:
    """Put `batches` batches of 1,000 into partition 0, so that batch n begins at offset 1,000 n."""
    now_ms = int(time.time() * 1000)
    batch = bytes(build_batch([(None, value(i).encode(), (), now_ms) for i in range(RECORDS_PER_BATCH)]))
    request = produce_batches(topic, 0, batch, acks="1")
    for _ in range(batches):
        expect(connection.ask(request), 200)


def run(made: Cluster, *, connections: int, seconds: float) -> list[dict[str, object]]:
    node = made.nodes[0]
    opened = [node.connect() for _ in range(connections)]
    batches = 200
    create_topic(opened[0], "in")
    create_topic(opened[0], "out")
    fill(opened[0], "out", batches)
    return [
        measure(node, opened, case, seconds)
        for case in [*produce_cases("in"), *produce_whole_cases("in"), *fetch_cases("out", batches)]
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=4, help="for each case (default: 4)")
    options.add_argument("--connections", type=int, default=4, help="requests in flight (default: 4)")
    chosen = options.parse_args()
    with cluster(1, directory=chosen.directory) as made:
        rows = run(made, connections=chosen.connections, seconds=min(chosen.seconds, 60))
    title = (
        f"HTTP, one node, batches of {RECORDS_PER_BATCH} x {RECORD_BYTES} B, {chosen.connections} requests in flight"
    )
    show(title, rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
