"""The bridge between the node's loop and the quorum's thread: futures on this side, a member on that one.

Owns the thread, its loop, the two lanes between the loops, every open future, and the timeouts. The member
(`RaftMember`, `ObserverMember`) lives on the other side and is never touched from here but through the lane; its few
plain integers are read across.

Invariants: a future is created, settled and awaited on the node's loop only, and settled at most once, so a cancelled
caller harms nobody. Every call ends by its own timeout, whatever the other thread does. When the member fails or
stops, all open futures end in OutcomeUnknown, at once. The thread is a daemon: it never keeps a process alive.
"""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from kraft.errors import NotLeader, OutcomeUnknown, PeerUnavailable, QuorumError
from kraft.loop_lane import LoopLane, settle
from kraft.peer_frames import Channel, Outcome
from kraft.peer_requests import Question, Reply
from kraft.peer_transport import PeerTransport
from kraft.quorum_config import QuorumConfig
from kraft.status import QuorumStatus, RoleChange
from wire.errors import ErrorCode, RefusedError

MAX_OPEN_PROPOSALS: Final = 16_384
STOP_TIMEOUT_S: Final = 10.0

_log = structlog.get_logger("kraft.quorum")


class Member(Protocol):
    """What runs on the quorum's thread. Everything but the four integers and two flags is called there."""

    @property
    def is_leader(self) -> bool: ...
    @property
    def is_followed(self) -> bool: ...
    @property
    def leader_id(self) -> int | None: ...
    @property
    def term(self) -> int: ...
    @property
    def last_applied(self) -> int: ...
    @property
    def transport(self) -> PeerTransport: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def propose(self, command: bytes, outcome: Callable[[object, QuorumError | None], None]) -> None: ...
    def barrier(self, outcome: Callable[[object, QuorumError | None], None]) -> None: ...
    def status(self) -> QuorumStatus: ...


class MemberReports(Protocol):
    """What a member tells the face, from its own thread; `flush` after a round of the first three."""

    def applied(self, index: int) -> None: ...
    def role_changed(self, change: RoleChange) -> None: ...
    def status_changed(self, status: QuorumStatus) -> None: ...
    def flush(self) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class ThreadedQuorum:
    """The `MetadataQuorum` over a member on a thread; `make_member` is called on that thread."""

    def __init__(self, config: QuorumConfig, make_member: Callable[[MemberReports], Member]) -> None:
        self._config = config
        self._make_member = make_member
        self._member: Member | None = None
        self._status: QuorumStatus | None = None
        self._failure: BaseException | None = None
        self._is_open = False
        self._is_stopping = False
        self._open: set[asyncio.Future[Any]] = set()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()
        self._questions: dict[asyncio.Future[bytes], Question] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._handler: Callable[[int, bytes], Awaitable[bytes]] | None = None
        self._role_callbacks: list[Callable[[RoleChange], None]] = []
        self._failure_callbacks: list[Callable[[BaseException], None]] = []
        self._endpoints: dict[int, tuple[str, int]] = {}
        self._thread: threading.Thread | None = None

    # -- what it says about itself ------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self._is_open and self._member is not None and self._member.is_leader

    @property
    def is_followed(self) -> bool:
        return self._is_open and self._member is not None and self._member.is_followed

    @property
    def leader_id(self) -> int | None:
        return self._member.leader_id if self._is_open and self._member is not None else None

    @property
    def term(self) -> int:
        return self._member.term if self._member is not None else 0

    @property
    def last_applied(self) -> int:
        return self._member.last_applied if self._member is not None else 0

    @property
    def failure(self) -> BaseException | None:
        return self._failure

    @property
    def peer_address(self) -> tuple[str, int]:
        """Where this node's peer listener is bound, with the real port where 0 was configured; after `start`."""
        assert self._member is not None
        return self._member.transport.listen_address

    def status(self) -> QuorumStatus:
        assert self._status is not None, "start first"
        return self._status

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        self._role_callbacks.append(callback)

    def on_failure(self, callback: Callable[[BaseException], None]) -> None:
        self._failure_callbacks.append(callback)

    def on_request(self, handler: Callable[[int, bytes], Awaitable[bytes]]) -> None:
        self._handler = handler

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        assert self._thread is None, "a quorum member starts once"
        self._node_loop = asyncio.get_running_loop()
        self._to_node = LoopLane(self._node_loop)
        self._started: asyncio.Future[None] = self._node_loop.create_future()
        self._ended: asyncio.Future[None] = self._node_loop.create_future()
        name = f"metadata-quorum-{self._config.node_id}"
        self._thread = threading.Thread(target=self._run_thread, name=name, daemon=True)
        self._thread.start()
        await asyncio.shield(self._started)  # a cancelled caller still has something to stop
        for node_id, (host, port) in self._endpoints.items():
            self.set_peer_endpoint(node_id, host, port)

    async def stop(self) -> None:
        if self._thread is None:
            return
        self._is_stopping = True
        self._is_open = False
        self._give_up_open_futures("this node stops")
        await asyncio.wait([self._started], timeout=STOP_TIMEOUT_S)
        self._is_open = False
        if self._started.done() and not self._ended.done():
            self._to_member.call(self._stop_requested.set)
        done, _ = await asyncio.wait([self._ended], timeout=STOP_TIMEOUT_S)
        if not done:
            _log.error("the quorum's thread did not end in time", timeout_s=STOP_TIMEOUT_S)
            return
        self._thread.join()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _run_thread(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except Exception as error:  # noqa: BLE001  # the last sync failed, most likely; the node must hear of it
            self.failed(error)
        finally:
            self._to_node.call(settle, self._ended, None, None)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_failed)
        self._to_member = LoopLane(loop)
        self._stop_requested = asyncio.Event()
        member: Member | None = None
        try:
            member = self._make_member(self)
            member.transport.requests.set_handler(Channel.NODE, self._question_came)
            await member.start()
            self._member, self._status = member, member.status()
            self._is_open = self._failure is None and not self._is_stopping
            self._to_node.call(settle, self._started, None, None)
        except BaseException as error:  # noqa: BLE001  # handed to whoever awaits start()
            self._to_node.call(settle, self._started, None, error)
            self._stop_requested.set()
        await self._stop_requested.wait()
        if member is not None:
            await member.stop()

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, OSError):  # accept() without descriptors, a handshake that failed
            _log.warning("peer network error", reason=context["message"], error=str(error))
        else:
            self.failed(error)

    # -- calls --------------------------------------------------------------------------------------------------

    async def propose(self, command: bytes, *, timeout_s: float) -> object:
        if len(command) > self._config.command_bytes_max:
            limit = f"a metadata command holds at most {self._config.command_bytes_max} bytes, this has {len(command)}"
            raise RefusedError(ErrorCode.MESSAGE_TOO_LARGE, limit)
        return await self._ask_member("propose", command, timeout_s=timeout_s)

    async def barrier(self, *, timeout_s: float) -> int:
        index = await self._ask_member("barrier", timeout_s=timeout_s)
        assert isinstance(index, int)
        return index

    async def _ask_member(self, method: str, *arguments: bytes, timeout_s: float) -> object:
        member = self._member
        if member is None or not self.is_leader:
            raise NotLeader(self.leader_id)
        if len(self._open) >= MAX_OPEN_PROPOSALS:
            refusal = f"{MAX_OPEN_PROPOSALS} metadata commands are under way on this node; wait for their answers"
            raise RefusedError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, refusal)
        future: asyncio.Future[object] = self._node_loop.create_future()
        self._to_member.call(self._carry_out, getattr(member, method), arguments, future)
        return await self._answer_of(future, timeout_s, "not committed and applied")

    async def wait_applied(self, index: int, *, timeout_s: float) -> None:
        if self.last_applied >= index:
            return
        future: asyncio.Future[None] = self._node_loop.create_future()
        heapq.heappush(self._waiting, (index, next(self._sequence), future))
        self._release_waiting()  # because the member may have looked at the heap just before this push
        if not self._is_open:
            raise OutcomeUnknown("this node's quorum member has stopped")
        self._open.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise TimeoutError(f"index {index} is not applied after {timeout_s} s; at {self.last_applied}") from None
        finally:
            self._open.discard(future)

    async def request(self, node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        if not self._is_open or self._member is None:
            raise PeerUnavailable("this node's quorum member is not running")
        future: asyncio.Future[bytes] = self._node_loop.create_future()
        if node_id == self._config.node_id:
            self._serve(node_id, payload, lambda outcome, answer: _answer_locally(future, outcome, answer))
            own_answer: bytes = await self._answer_of(future, timeout_s, "no answer from this node's own handler")
            return own_answer
        self._to_member.call(self._ask_peer, node_id, payload, future)
        try:
            answer: bytes = await self._answer_of(future, timeout_s, f"no answer from node {node_id}")
        except (OutcomeUnknown, asyncio.CancelledError):
            self._to_member.call(self._forget_question, future)
            raise
        return answer

    def set_peer_endpoint(self, node_id: int, host: str, port: int) -> None:
        self._endpoints[node_id] = (host, port)
        if self._member is not None:
            self._to_member.call(self._member.transport.set_peer_endpoint, node_id, host, port)

    def forget_peer(self, node_id: int) -> None:
        self._endpoints.pop(node_id, None)
        if self._member is not None:
            self._to_member.call(self._member.transport.forget_peer, node_id)

    async def _answer_of(self, future: "asyncio.Future[Any]", timeout_s: float, what: str) -> Any:
        unknown = OutcomeUnknown(f"{what} within {timeout_s} s")
        timer = self._node_loop.call_later(timeout_s, settle, future, None, unknown)
        self._open.add(future)
        try:
            return await future
        finally:
            timer.cancel()
            self._open.discard(future)

    # -- on the node's loop: what came back ---------------------------------------------------------------------

    def _release_waiting(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.last_applied:
            settle(heapq.heappop(self._waiting)[2], None, None)
        if len(self._waiting) > MAX_OPEN_PROPOSALS:  # those whose caller gave up
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)

    def _give_up_open_futures(self, reason: str) -> None:
        for future in list(self._open):
            settle(future, None, OutcomeUnknown(reason))

    def _fail(self, error: BaseException) -> None:
        self._give_up_open_futures(f"this node's quorum member failed: {error!r}")
        for callback in self._failure_callbacks:
            callback(error)

    def _tell_role(self, change: RoleChange) -> None:
        if self._is_stopping:
            return
        for callback in self._role_callbacks:
            callback(change)

    def _serve(self, node_id: int, payload: bytes, reply: Reply) -> None:
        if self._handler is None or not self._is_open:
            reply(Outcome.NOT_STARTED, b"not ready for requests yet")
            return
        task = self._node_loop.create_task(self._run_handler(self._handler, node_id, payload, reply))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _run_handler(
        self, handler: Callable[[int, bytes], Awaitable[bytes]], node_id: int, payload: bytes, reply: Reply
    ) -> None:
        try:
            answer = await handler(node_id, payload)
        except Exception as error:  # noqa: BLE001  # whatever it is, the asker must hear that it failed
            _log.exception("a peer request's handler raised", peer_id=node_id)
            reply(Outcome.FAILED, f"its handler raised {type(error).__name__}: {error}".encode())
        else:
            reply(Outcome.DONE, answer)

    # -- on the quorum's thread ---------------------------------------------------------------------------------

    def _carry_out(
        self, method: Callable[..., None], arguments: tuple[bytes, ...], future: "asyncio.Future[object]"
    ) -> None:
        if future.done():
            return
        try:
            method(*arguments, lambda answer, error: self._to_node.put(settle, future, answer, error))
        except RefusedError as refusal:
            self._to_node.put(settle, future, None, refusal)
        self._to_node.wake()

    def _ask_peer(self, node_id: int, payload: bytes, future: "asyncio.Future[bytes]") -> None:
        def answered(answer: bytes | Exception) -> None:
            self._questions.pop(future, None)
            is_error = isinstance(answer, Exception)
            self._to_node.call(settle, future, None if is_error else answer, answer if is_error else None)

        member = self._member
        if future.done() or member is None:
            return
        try:
            self._questions[future] = member.transport.requests.ask(node_id, Channel.NODE, payload, answered)
        except (PeerUnavailable, RefusedError) as error:
            self._to_node.call(settle, future, None, error)

    def _forget_question(self, future: "asyncio.Future[bytes]") -> None:
        question = self._questions.pop(future, None)
        if question is not None and self._member is not None:
            self._member.transport.requests.forget(question)

    def _question_came(self, node_id: int, payload: bytes, reply: Reply) -> None:
        self._to_node.call(
            self._serve, node_id, payload, lambda outcome, answer: self._to_member.call(reply, outcome, answer)
        )

    def applied(self, _index: int) -> None:
        """The member's last_applied has moved."""
        if self._waiting:
            self._to_node.put(self._release_waiting)

    def role_changed(self, change: RoleChange) -> None:
        """Term, leader or both have changed."""
        self._to_node.put(self._tell_role, change)

    def status_changed(self, status: QuorumStatus) -> None:
        """A new snapshot of the member's status; replaced as a whole, so any thread may read it."""
        self._status = status

    def flush(self) -> None:
        """The member's round is over: one wake-up carries all that it reported and answered."""
        self._to_node.wake()

    def failed(self, error: BaseException) -> None:
        """The member cannot go on: it falls silent at once, and the node hears why."""
        if self._failure is not None:
            return
        self._failure = error
        self._is_open = False
        _log.error("the metadata quorum's member failed; this node must stop", error=repr(error))
        if self._member is not None:
            self._member.transport.destroy()
        self._to_node.call(self._fail, error)


def _answer_locally(future: "asyncio.Future[bytes]", outcome: Outcome, answer: bytes) -> None:
    if outcome is Outcome.DONE:
        settle(future, answer, None)
    elif outcome is Outcome.NOT_STARTED:
        settle(future, None, PeerUnavailable(answer.decode()))
    else:
        settle(future, None, OutcomeUnknown(answer.decode()))
