"""What the links between nodes promise: nothing unbounded, nobody unknown, one link a peer, back after trouble."""

import asyncio
import contextlib
import dataclasses
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import structlog

from kraft import peer_connection, peer_transport
from kraft.errors import OutcomeUnknown, PeerUnavailable
from kraft.peer_frames import Channel, FrameKind, Hello, Outcome, encode_frame
from kraft.peer_transport import PeerTransport
from kraft.voters import Voter
from tests.kraft.quorum_harness import CLUSTER_ID, directory_id, quorum_configs, until
from wire.errors import RefusedError

VOTE = {"type": "request_vote", "term": 7, "directory": bytes(16), "last_log_index": 5, "last_log_term": 6}


def append_entries(size_bytes: int) -> dict[str, object]:
    return {
        "type": "append_entries",
        "term": 1,
        "directory": bytes(16),
        "commit_index": 0,
        "prev_log_index": 0,
        "prev_log_term": 0,
        "entries": [(bytes(size_bytes), 1, 1)],
    }


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Peer:
    """A started transport that keeps what its core would have heard."""

    def __init__(self, config) -> None:
        self.heard: list[tuple[int, dict]] = []
        self.linked: list[int] = []
        self.unlinked: list[int] = []
        self.wakes = 0
        self.transport = PeerTransport(config, wake=self.wake)
        self.transport.setOnMessageReceivedCallback(lambda voter, message: self.heard.append((voter.id, message)))
        self.transport.setOnNodeConnectedCallback(lambda voter: self.linked.append(voter.id))
        self.transport.setOnNodeDisconnectedCallback(lambda voter: self.unlinked.append(voter.id))

    def wake(self) -> None:
        self.wakes += 1

    def say(self, node_id: int, message: dict) -> bool:
        was_queued = self.transport.send(Voter(node_id), message)
        self.transport.flush()
        return was_queued


@pytest.fixture
async def start(tmp_path):
    """start(config) -> Peer; all are stopped at the end."""
    peers: list[Peer] = []

    async def start_one(config) -> Peer:
        peer = Peer(config)
        await peer.transport.start()
        peers.append(peer)
        return peer

    yield start_one
    await asyncio.gather(*(peer.transport.stop() for peer in peers))


@pytest.fixture
async def pair(start, tmp_path):
    """Two linked voters of three."""
    configs = quorum_configs(tmp_path, voters=3)
    one, two = await start(configs[1]), await start(configs[2])
    await until(lambda: one.linked and two.linked)
    return one, two


async def raw_connection(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*peer.transport.listen_address)


@contextlib.asynccontextmanager
async def stranger(peer: Peer, *parts: bytes):
    """A connection of somebody who sends these bytes."""
    reader, writer = await raw_connection(peer)
    for part in parts:
        writer.write(part)
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def hello_frame(**changes: object) -> bytes:
    hello = Hello("kraft-peer", 1, 1, CLUSTER_ID, 3, directory_id(3).bytes, (1, 2, 3))
    return bytes(encode_frame(FrameKind.HELLO, msgspec.structs.replace(hello, **changes)))


async def is_closed_by_peer(reader: asyncio.StreamReader) -> bytes:
    """What came before the end; TimeoutError where the connection stays open."""
    async with asyncio.timeout(10):
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""


class TestMessages:
    async def test_both_ends_learn_who_the_other_is(self, pair):
        one, two = pair
        assert directory_id(2) == one.transport.directory_ids[2]
        assert directory_id(1) == two.transport.directory_ids[1]

    async def test_messages_arrive_in_order_and_wake_the_core(self, pair):
        one, two = pair
        wakes = one.wakes
        for term in range(200):
            two.transport.send(Voter(1), {**VOTE, "term": term})
        assert [] == one.heard
        two.transport.flush()
        await until(lambda: len(one.heard) == 200)
        assert [(2, term) for term in range(200)] == [(sender, message["term"]) for sender, message in one.heard]
        assert one.wakes > wakes

    async def test_nothing_leaves_before_flush(self, pair):
        """S16: the core syncs its journal between the two."""
        one, two = pair
        two.transport.send(Voter(1), VOTE)
        answer_with(one, lambda *_: (Outcome.DONE, b"sent later, and here already"))
        await two.transport.requests.call(1, Channel.NODE, b"", timeout_s=5)
        assert [] == one.heard
        two.transport.flush()
        await until(lambda: one.heard)

    async def test_a_message_to_nobody_says_so(self, pair):
        one, _ = pair
        assert one.say(3, VOTE) is False

    async def test_a_slow_peer_loses_entries_and_never_memory(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        one = await start(configs[1])
        async with stranger(one, hello_frame()):  # says hello as node 3 and never reads
            await until(lambda: 3 in one.linked)
            connection = one.transport.connection_of(3)
            queued = sum(one.say(3, append_entries(512 * 1024)) for _ in range(100))
            assert 0 < queued < 50
            assert connection.queued_bytes < 2 * peer_connection.SLOW_PEER_BYTES
            assert one.say(3, VOTE), "a vote is small and still goes"

    async def test_an_outbox_does_not_outgrow_the_bound_before_it_is_flushed(self, pair):
        one, _ = pair
        queued = sum(one.transport.send(Voter(2), append_entries(512 * 1024)) for _ in range(100))
        assert queued < 20


class TestStrangers:
    @pytest.mark.parametrize(
        "first_bytes",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            struct.pack(">IB", 2**32 - 1, FrameKind.HELLO),
            struct.pack(">IB", peer_connection.MAX_HELLO_FRAME_BYTES + 1, FrameKind.HELLO),
            struct.pack(">IB", 3, 99) + b"\x80\x80",
            bytes(encode_frame(FrameKind.RAFT, VOTE)),
            bytes(encode_frame(FrameKind.HELLO, ("kraft-peer", 1))),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
        ],
    )
    async def test_garbage_before_a_hello_closes_at_once(self, pair, first_bytes):
        one, two = pair
        async with stranger(one, first_bytes) as reader:
            assert b"" == await is_closed_by_peer(reader)
        assert two.say(1, VOTE)
        await until(lambda: one.heard, what="the good peer is still heard")

    @pytest.mark.parametrize(
        "then",
        [
            struct.pack(">IB", 2**31 - 1, FrameKind.RAFT),
            struct.pack(">IB", 10, FrameKind.RAFT) + b"\xc1" * 9,
            struct.pack(">IB", 10, 77) + bytes(9),
            hello_frame(),
        ],
    )
    async def test_garbage_after_a_hello_closes_too(self, start, tmp_path, then):
        one = await start(quorum_configs(tmp_path, voters=3)[1])
        async with stranger(one, hello_frame(), then) as reader:
            await is_closed_by_peer(reader)
        await until(lambda: one.unlinked == [3])
        assert [] == one.heard

    async def test_a_truncated_frame_is_never_delivered(self, start, tmp_path):
        one = await start(quorum_configs(tmp_path, voters=3)[1])
        async with stranger(one, hello_frame(), bytes(encode_frame(FrameKind.RAFT, VOTE))[:-1]):
            await until(lambda: one.linked == [3])
        await until(lambda: one.unlinked == [3])
        assert [] == one.heard

    async def test_silence_is_closed_after_the_deadline(self, pair, monkeypatch):
        one, _ = pair
        monkeypatch.setattr(peer_connection, "HELLO_TIMEOUT_S", 0.05)
        async with stranger(one, hello_frame()[:7]) as reader:
            assert b"" == await is_closed_by_peer(reader)

    async def test_a_crowd_without_a_hello_does_not_shut_the_door(self, start, tmp_path, monkeypatch):
        monkeypatch.setattr(peer_transport, "MAX_UNIDENTIFIED", 5)
        configs = quorum_configs(tmp_path, voters=3)
        one = await start(configs[1])
        async with contextlib.AsyncExitStack() as crowd:
            for _ in range(5):
                await crowd.enter_async_context(stranger(one))
            last = await crowd.enter_async_context(stranger(one))
            assert b"" == await is_closed_by_peer(last)
        two = await start(configs[2])
        await until(lambda: one.linked == [2] and two.linked == [1])

    async def test_raft_messages_of_one_who_is_no_voter_are_refused(self, start, tmp_path):
        one = await start(quorum_configs(tmp_path, voters=3)[1])
        frames = hello_frame(node_id=9), bytes(encode_frame(FrameKind.RAFT, VOTE))
        async with stranger(one, *frames) as reader:
            await is_closed_by_peer(reader)
        assert [] == one.heard

    async def test_another_cluster_is_refused_and_that_is_said_once(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        with structlog.testing.capture_logs() as log:
            one = await start(configs[1])
            for _ in range(3):
                async with stranger(one, hello_frame(cluster_id="another")) as reader:
                    assert b"is of cluster another" in await is_closed_by_peer(reader)
        refusals = [entry for entry in log if "is of cluster another" in entry.get("reason", "")]
        assert 1 == len(refusals)
        assert [] == one.linked

    async def test_a_node_configured_for_another_cluster_hears_why(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        with structlog.testing.capture_logs() as log:
            one = await start(configs[1])
            two = await start(dataclasses.replace(configs[2], cluster_id="another"))
            await until(lambda: any(entry.get("peer_id") == 1 for entry in log))
        assert [] == one.linked + two.linked


class TestLinks:
    async def test_a_new_connection_closes_the_one_that_it_replaces(self, start, tmp_path):
        one = await start(quorum_configs(tmp_path, voters=3)[1])
        async with stranger(one, hello_frame()) as first:
            await until(lambda: one.linked == [3])
            async with stranger(one, hello_frame()):
                await until(lambda: one.linked == [3, 3])
                await is_closed_by_peer(first)
                assert [3] == one.unlinked
                assert 1 == len(one.transport.connected_ids())
                assert one.say(3, VOTE)

    async def test_a_peer_that_comes_back_is_linked_again(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        one, two = await start(configs[1]), await start(configs[2])
        await until(lambda: one.linked and two.linked)
        await one.transport.stop()
        await until(lambda: two.unlinked == [1])
        again = await start(configs[1])
        await until(lambda: again.linked == [2] and two.linked == [1, 1])
        assert two.say(1, VOTE)
        await until(lambda: again.heard)

    async def test_only_the_configured_address_is_bound(self, pair):
        one, _ = pair
        host, port = one.transport.listen_address
        assert "127.0.0.1" == host
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", port)

    async def test_a_port_in_use_is_an_error_at_start(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        with socket.create_server(configs[1].listen), pytest.raises(OSError, match="address already in use"):
            await PeerTransport(configs[1], wake=lambda: None).start()

    async def test_stop_leaves_no_socket_behind(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=3)
        before = open_descriptors()
        one, two = await start(configs[1]), await start(configs[2])
        await until(lambda: one.linked and two.linked)
        await asyncio.gather(one.transport.stop(), two.transport.stop())
        await until(lambda: open_descriptors() == before)


@pytest.fixture
async def asking(start, tmp_path) -> tuple[Peer, Peer]:
    """A voter and an observer that are linked; the observer dialed."""
    configs = quorum_configs(tmp_path, voters=1, observers=1)
    voter, observer = await start(configs[1]), await start(configs[2])
    await until(lambda: voter.transport.connected_ids() and observer.transport.connected_ids())
    return voter, observer


def answer_with(peer: Peer, answer: Callable[[int, bytes], tuple[Outcome, bytes] | None]) -> list[bytes]:
    asked: list[bytes] = []

    def handler(node_id, payload, reply) -> None:
        asked.append(payload)
        found = answer(node_id, payload)
        if found is not None:
            reply(*found)

    peer.transport.requests.set_handler(Channel.NODE, handler)
    return asked


class TestRequests:
    async def test_both_sides_ask_over_the_one_connection(self, asking):
        voter, observer = asking
        for one, other, other_id in ((voter, observer, 2), (observer, voter, 1)):
            answer_with(other, lambda node_id, payload: (Outcome.DONE, b"%d:%s" % (node_id, payload)))
            answer = await one.transport.requests.call(other_id, Channel.NODE, b"q", timeout_s=5)
            assert b"%d:q" % (3 - other_id) == answer

    async def test_many_at_once_each_get_their_own(self, asking):
        voter, observer = asking
        held = []
        voter.transport.requests.set_handler(Channel.NODE, lambda _, payload, reply: held.append((payload, reply)))
        calls = [
            asyncio.ensure_future(observer.transport.requests.call(1, Channel.NODE, b"%d" % n, timeout_s=5))
            for n in range(200)
        ]
        await until(lambda: len(held) == 200)
        for payload, reply in reversed(held):
            reply(Outcome.DONE, payload * 2)
        assert [b"%d" % n * 2 for n in range(200)] == await asyncio.gather(*calls)

    async def test_no_link_is_peer_unavailable(self, asking):
        _, observer = asking
        with pytest.raises(PeerUnavailable, match="no connection to node 7"):
            await observer.transport.requests.call(7, Channel.NODE, b"", timeout_s=5)

    async def test_nobody_to_answer_is_peer_unavailable(self, asking):
        _, observer = asking
        with pytest.raises(PeerUnavailable, match="not ready"):
            await observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=5)

    async def test_too_many_at_once_are_turned_away_untouched(self, asking):
        voter, observer = asking
        asked = answer_with(voter, lambda *_: None)
        calls = [
            asyncio.ensure_future(observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=60))
            for _ in range(260)
        ]
        await until(lambda: sum(call.done() for call in calls) == 4)
        assert 256 == len(asked)
        for call in calls:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert 4 == sum(isinstance(end, PeerUnavailable) for end in ends)

    async def test_a_failed_handler_is_outcome_unknown(self, asking):
        voter, observer = asking
        answer_with(voter, lambda *_: (Outcome.FAILED, b"it broke"))
        with pytest.raises(OutcomeUnknown, match="node 1: it broke"):
            await observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=5)

    async def test_no_answer_in_time_is_outcome_unknown_and_a_late_one_is_ignored(self, asking):
        voter, observer = asking
        replies = []
        voter.transport.requests.set_handler(Channel.NODE, lambda _, __, reply: replies.append(reply))
        with pytest.raises(OutcomeUnknown, match="did not answer within"):
            await observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=0.05)
        replies[0](Outcome.DONE, b"late")
        answer_with(voter, lambda *_: (Outcome.DONE, b"in time"))
        assert b"in time" == await observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=5)

    async def test_a_link_lost_before_the_answer_is_outcome_unknown(self, asking):
        voter, observer = asking
        asked = answer_with(voter, lambda *_: None)
        call = asyncio.ensure_future(observer.transport.requests.call(1, Channel.NODE, b"", timeout_s=60))
        await until(lambda: asked)
        voter.transport.connection_of(2).close()
        with pytest.raises(OutcomeUnknown, match="was lost before its answer"):
            await call

    async def test_a_request_too_long_is_refused_with_the_limit(self, asking):
        _, observer = asking
        with pytest.raises(RefusedError, match="holds at most"):
            await observer.transport.requests.call(1, Channel.NODE, bytes(17 * 1024 * 1024), timeout_s=5)

    async def test_nodes_that_are_no_voters_find_each_other_by_their_endpoints(self, start, tmp_path):
        configs = quorum_configs(tmp_path, voters=1, observers=2)
        two, three = await start(configs[2]), await start(configs[3])
        for peer in (two, three):
            for node_id in (2, 3):
                peer.transport.set_peer_endpoint(node_id, *configs[node_id].listen)
        await until(lambda: 3 in two.transport.connected_ids() and 2 in three.transport.connected_ids())
        answer_with(three, lambda *_: (Outcome.DONE, b"here"))
        assert b"here" == await two.transport.requests.call(3, Channel.NODE, b"", timeout_s=5)

    @pytest.mark.parametrize("nowhere", [("a..b", 1), ("x" * 64 + ".example", 1), ("127.0.0.1", 1 << 20)])
    async def test_a_node_that_advertises_what_is_no_address_is_dialed_again_where_it_is(
        self, start, tmp_path, nowhere, monkeypatch
    ):
        monkeypatch.setattr(peer_transport, "LAST_RETRY_S", 0.05)
        configs = quorum_configs(tmp_path, voters=1, observers=2)
        _, three = await start(configs[2]), await start(configs[3])
        three.transport.set_peer_endpoint(2, *nowhere)
        await until(lambda: 2 in three.transport._refusals)
        three.transport.set_peer_endpoint(2, *configs[2].listen)
        await until(lambda: 2 in three.transport.connected_ids())


def test_running_out_of_descriptors_costs_a_delay_and_never_the_listener(tmp_path):
    """Stock pysyncobj unbinds its listener for good at the first EMFILE."""
    script = textwrap.dedent("""
        import asyncio, os, resource, socket, sys
        sys.path.insert(0, ".")
        from pathlib import Path
        from tests.kraft.quorum_harness import quorum_configs, until
        from kraft.peer_transport import PeerTransport

        async def main():
            configs = quorum_configs(Path(sys.argv[1]), voters=3)
            complaints = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
            one = PeerTransport(configs[1], wake=lambda: None)
            await one.start()
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
            client = socket.socket()
            client.setblocking(False)
            hoard = []
            while True:
                try:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            try:
                client.connect(one.listen_address)
            except BlockingIOError:
                pass
            await until(lambda: complaints, what="accept fails")
            assert "out of system resource" in complaints[0], complaints
            for descriptor in hoard:
                os.close(descriptor)
            two = PeerTransport(configs[2], wake=lambda: None)
            await two.start()
            await until(lambda: one.connected_ids() == {2} and two.connected_ids() == {1}, what="linked after EMFILE")
            client.close()
            await asyncio.gather(one.stop(), two.stop())
            print("survived")

        asyncio.run(main())
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "survived" in done.stdout, done.stderr
