"""Consumer groups over the Kafka listener: what a heartbeat costs, and how long a group is between two generations.

Requests: heartbeats and fetches that find nothing, pipelined; CPU is that of the server's loop, its process's first
thread, user and system. Connections: memory of the node for 1,000 that say nothing. Generations: members speak our own
codec, each on a connection of its own, send heartbeats and rejoin when one tells them to; a time is from the cause (one
more member, one that leaves, one whose connection is cut) until every member has its assignment of the new generation.
The members share the machine with the node.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from scripts.bench.kafka import cpu_s, create
from scripts.bench.kafka_producer import KafkaConnection, Leaders
from scripts.bench.nodes import Node, cluster
from scripts.bench.replication import kafka_port
from scripts.bench.report import bound, parser, show
from wire.connection import ClientConnection
from wire.errors import ErrorCode
from wire.messages import API, ApiKey
from wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from wire.messages.find_coordinator import FindCoordinatorRequest
from wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from wire.schema import Message

TOPIC: Final = "read"
PIPELINED: Final = 64
CPU_US_MAX: Final = 40.0
IDLE_CONNECTIONS: Final = 1000
IDLE_MIB_MAX: Final = 60.0
SUBSCRIBED: Final = b"\0\0\0\0\0\1\0\4read\xff\xff\xff\xff"
ASSIGNED: Final = b"\0\0\0\0\0\1\0\4read\0\0\0\1\0\0\0\0\xff\xff\xff\xff"
SETTINGS: Final = ("group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=1")
PATIENCE_S: Final = 120.0
REBALANCE_TIMEOUT_MS: Final = 60_000


def newest(key: ApiKey) -> int:
    return API[key].versions.stop - 1


class Member:
    """One consumer of a group, without the consuming."""

    def __init__(self, group_id: str, port: int, *, session_timeout_ms: int, heartbeat_s: float) -> None:
        self.generation = -1
        self.member_id = ""
        self._group_id = group_id
        self._port = port
        self._session_timeout_ms = session_timeout_ms
        self._heartbeat_s = heartbeat_s
        self._wire = ClientConnection("bench")
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def start(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._task = asyncio.ensure_future(self._run())

    async def leave(self) -> None:
        """As a consumer that is closed."""
        await self.die(close=False)
        request = LeaveGroupRequest(group_id=self._group_id, members=[MemberIdentity(self.member_id)])
        self._writer.write(b"".join(self._wire.send(ApiKey.LEAVE_GROUP, newest(ApiKey.LEAVE_GROUP), request)[1]))
        await self._writer.drain()

    async def die(self, *, close: bool = True) -> None:
        """Without a word."""
        assert self._task is not None, "not started"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if close:
            self._writer.transport.abort()

    async def ask(self, key: ApiKey, request: Message) -> Message:
        self._writer.write(b"".join(self._wire.send(key, newest(key), request)[1]))
        while True:
            data = await self._reader.read(1 << 20)
            if not data:
                raise SystemExit("bench: the broker closed a member's connection")
            for _, answer in self._wire.receive(data):
                return answer

    async def _run(self) -> None:
        while True:
            await self._join()
            error = ErrorCode.NONE
            while error == ErrorCode.NONE:
                await asyncio.sleep(self._heartbeat_s)
                beat = HeartbeatRequest(self._group_id, self.generation, self.member_id)
                answer = await self.ask(ApiKey.HEARTBEAT, beat)
                assert isinstance(answer, HeartbeatResponse), answer
                error = ErrorCode(answer.error_code)
            if error != ErrorCode.REBALANCE_IN_PROGRESS:
                raise SystemExit(f"bench: a heartbeat was refused: {error.name}")

    async def _join(self) -> None:
        """Until there is an assignment."""
        while True:
            joined = await self.ask(
                ApiKey.JOIN_GROUP,
                JoinGroupRequest(
                    self._group_id, self._session_timeout_ms, REBALANCE_TIMEOUT_MS, self.member_id, None, "consumer",
                    [JoinGroupRequestProtocol("range", SUBSCRIBED)],
                ),
            )  # fmt: skip
            assert isinstance(joined, JoinGroupResponse), joined
            self.member_id = joined.member_id
            if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                continue
            if joined.error_code:
                raise SystemExit(f"bench: a join was refused: {ErrorCode(joined.error_code).name}")
            shares = [SyncGroupRequestAssignment(one.member_id, ASSIGNED) for one in joined.members]
            synced = await self.ask(
                ApiKey.SYNC_GROUP,
                SyncGroupRequest(
                    self._group_id, joined.generation_id, self.member_id, None, "consumer", "range", shares
                ),
            )
            assert isinstance(synced, SyncGroupResponse), synced
            if not synced.error_code:
                self.generation = joined.generation_id
                return
            if synced.error_code != ErrorCode.REBALANCE_IN_PROGRESS:
                raise SystemExit(f"bench: a sync was refused: {ErrorCode(synced.error_code).name}")


async def until_settled(members: Sequence[Member], after: int) -> None:
    """Every member has its assignment of one generation later than `after`."""

    def is_settled() -> bool:
        generations = {member.generation for member in members}
        return len(generations) == 1 and min(generations) > after

    async with asyncio.timeout(PATIENCE_S):
        while not is_settled():  # noqa: ASYNC110 - looked at as often as a time is worth
            await asyncio.sleep(0.002)


async def generations(port: int, *, members: int, session_s: float, heartbeat_s: float) -> dict[str, float]:
    """Seconds without an assignment, by what caused the new generation."""
    made = [
        Member(f"of-{members}", port, session_timeout_ms=int(1000 * session_s), heartbeat_s=heartbeat_s)
        for _ in range(members + 1)
    ]
    newcomer, old = made[0], made[1:]
    for some in range(0, members, 100):
        await asyncio.gather(*(member.start() for member in old[some : some + 100]))
    await until_settled(old, -1)
    found = {}

    async def measure(cause: str, act: Callable[[], object], left: list[Member]) -> None:
        before, began_s = left[-1].generation, time.perf_counter()
        await act()  # type: ignore[misc]  # a coroutine function
        await until_settled(left, before)
        found[cause] = time.perf_counter() - began_s

    await measure("one joins", newcomer.start, made)
    await measure("one leaves", newcomer.leave, old)
    await measure("one is cut off", old[0].die, old[1:])
    await asyncio.gather(*(member.die() for member in old[1:]))
    return found


def prepare(node: Node) -> None:
    """The topic, and the coordinator's own one, are there and read."""
    create(node, TOPIC, partitions=1)
    with KafkaConnection("127.0.0.1", kafka_port(node.directory)) as connection:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            connection.ask(ApiKey.FIND_COORDINATOR, 6, FindCoordinatorRequest(coordinator_keys=["any"]))
            answer = connection.ask(ApiKey.OFFSET_FETCH, 7, OffsetFetchRequest("any", None))
            assert isinstance(answer, OffsetFetchResponse), answer
            if not answer.error_code:
                return
            time.sleep(0.05)
    raise SystemExit("bench: the coordinator did not come")


def pipelined(node: Node, name: str, key: ApiKey, request: Message, *, seconds: float) -> dict[str, object]:
    """CPU of one request, `PIPELINED` of them on their way."""
    with KafkaConnection("127.0.0.1", kafka_port(node.directory)) as connection:
        wire = ClientConnection("bench")
        count, began_s, before_s = 0, time.perf_counter(), cpu_s(node.pid)
        while time.perf_counter() - began_s < seconds:
            sent = b"".join(b"".join(wire.send(key, newest(key), request)[1]) for _ in range(PIPELINED))
            connection.socket.sendall(sent)
            answered = 0
            while answered < PIPELINED:
                for _, answer in wire.receive(connection.socket.recv(1 << 16)):
                    assert isinstance(answer, HeartbeatResponse | FetchResponse), answer
                    assert not answer.error_code, answer
                    answered += 1
            count += PIPELINED
        cpu_us = 1e6 * (cpu_s(node.pid) - before_s) / count
        per_s = count / (time.perf_counter() - began_s)
    return {"request": name, "cpu_us": cpu_us, "per_s": round(per_s), "bound": bound(cpu_us, at_most=CPU_US_MAX)}


async def one_heartbeat(node: Node) -> HeartbeatRequest:
    """Of a member that is there for as long as the bench runs."""
    member = Member("beats", kafka_port(node.directory), session_timeout_ms=300_000, heartbeat_s=3600)
    await member.start()
    await until_settled([member], -1)
    return HeartbeatRequest("beats", member.generation, member.member_id)


def measure_requests(node: Node, *, seconds: float) -> list[dict[str, object]]:
    leaders = Leaders(("127.0.0.1", kafka_port(node.directory)), TOPIC)
    nothing = FetchRequest(topics=[FetchTopic("", leaders.topic_id, [FetchPartition(0, partition_max_bytes=1 << 20)])])
    return [
        pipelined(node, "heartbeat", ApiKey.HEARTBEAT, asyncio.run(one_heartbeat(node)), seconds=seconds),
        pipelined(node, "fetch that finds nothing", ApiKey.FETCH, nothing, seconds=seconds),
    ]


def measure_connections(node: Node) -> dict[str, object]:
    with contextlib.ExitStack() as stack:
        before_bytes = node.rss_bytes()
        for _ in range(IDLE_CONNECTIONS):
            stack.enter_context(KafkaConnection("127.0.0.1", kafka_port(node.directory)))
        stack.enter_context(KafkaConnection("127.0.0.1", kafka_port(node.directory))).ask(
            ApiKey.FIND_COORDINATOR, 6, FindCoordinatorRequest(coordinator_keys=["any"])
        )
        more_mib = (node.rss_bytes() - before_bytes) / 2**20
    return {
        "connections": IDLE_CONNECTIONS,
        "MiB more": more_mib,
        "bound": bound(more_mib, at_most=IDLE_MIB_MAX),
    }


def measure_generations(node: Node, members: int, *, session_s: float, heartbeat_s: float) -> list[dict[str, object]]:
    found = asyncio.run(
        generations(kafka_port(node.directory), members=members, session_s=session_s, heartbeat_s=heartbeat_s)
    )
    is_large = members > 100
    limits = {
        "one joins": 5.0,
        "one leaves": 5.0 if is_large else 1.0,
        "one is cut off": session_s + (5.0 if is_large else 1.0),
    }
    return [
        {
            "members": members,
            "session s": session_s,
            "heartbeat every s": heartbeat_s,
            "cause": cause,
            "seconds": seconds,
            "bound": bound(seconds, at_most=limits[cause]),
        }
        for cause, seconds in found.items()
    ]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=float, default=3.0, help="of each kind of request (default: 3)")
    options.add_argument("--members", type=int, default=1000, help="of the large group (default: 1000)")
    chosen = options.parse_args()
    with cluster(directory=chosen.directory, settings=SETTINGS) as made:
        (node,) = made.nodes
        prepare(node)
        show("Requests, pipelined", measure_requests(node, seconds=chosen.seconds), as_json=chosen.json)
        show("Connections that say nothing", [measure_connections(node)], as_json=chosen.json)
        rows = measure_generations(node, 10, session_s=6.0, heartbeat_s=0.3)
        rows += measure_generations(node, chosen.members, session_s=10.0, heartbeat_s=1.0)
        show("From the cause until all members have their share", rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
