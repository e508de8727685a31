"""A coordinator in a test: members speak by their names, time is a number, the log is a list.

What is written stays in doubt until `commit_log` (or at once, where `is_prompt`); every call's answer is kept, and one
that is answered twice is an error.
"""

import itertools
from collections.abc import Iterable

from broker.groups.coordinator import GroupCoordinator, OffsetsToCommit
from broker.groups.effects import LogRecord, Now, Write
from broker.groups.member import Joining
from broker.groups.offsets import CommittedOffset, TopicPartition
from broker.groups.records import read_record
from broker.groups.settings import GroupSettings
from wire.errors import ErrorCode
from wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse

START_MS = 1_000_000
SUBSCRIBED_TO_T = b"\0\0\0\0\0\1\0\1t"


class Conversation:
    """One coordinator and the group `g`."""

    def __init__(self, *, is_prompt: bool = True, **settings: int) -> None:
        self.settings = GroupSettings(**({"initial_rebalance_delay_ms": 0} | settings))
        self.core = GroupCoordinator(self.settings)
        self.is_prompt = is_prompt
        self.now_ms = START_MS
        self.log: list[LogRecord] = []
        """What is committed."""
        self.in_doubt: list[Write] = []
        self.answers: dict[int, object] = {}
        self._leaders: dict[tuple[object, int], str] = {}
        self._calls = itertools.count(1)
        self._ids = itertools.count(1)

    @property
    def now(self) -> Now:
        return Now(self.now_ms, self.now_ms)

    @property
    def group(self):
        return self.core.groups["g"]

    # ---- what members say

    def join(self, member_id: str = "", *, name: str = "m", **request) -> int:
        """A JoinGroup; the number of the call. `version` 4 and later asks for the id first."""
        version = request.pop("version", 3)
        protocols = request.pop("protocols", {"range": SUBSCRIBED_TO_T})
        asked = JoinGroupRequest(
            group_id=request.pop("group_id", "g"),
            session_timeout_ms=request.pop("session_timeout_ms", 10_000),
            rebalance_timeout_ms=request.pop("rebalance_timeout_ms", 30_000),
            member_id=member_id,
            group_instance_id=request.pop("instance_id", None),
            protocol_type=request.pop("protocol_type", "consumer"),
            protocols=[JoinGroupRequestProtocol(name, metadata) for name, metadata in protocols.items()],
        )
        assert not request, request
        joining = Joining(asked, "c", "/h", f"{name}-{next(self._ids)}", version >= 4, version >= 9)
        call = next(self._calls)
        self.core.join(call, joining, self.now)
        self.carry_out()
        return call

    def sync(self, joined: JoinGroupResponse, assignments: dict[str, bytes] | None = None, *, instance_id=None) -> int:
        """A SyncGroup for the generation that `joined` told of."""
        request = SyncGroupRequest(
            "g",
            joined.generation_id,
            joined.member_id,
            instance_id,
            joined.protocol_type,
            joined.protocol_name,
            [SyncGroupRequestAssignment(member_id, data) for member_id, data in (assignments or {}).items()],
        )
        call = next(self._calls)
        self.core.sync(call, request, self.now)
        self.carry_out()
        return call

    def heartbeat(self, joined: JoinGroupResponse, *, instance_id=None) -> ErrorCode:
        code = self.core.heartbeat("g", joined.member_id, instance_id, joined.generation_id, self.now)
        self.carry_out()
        return code

    def leave(self, member_id: str, instance_id: str | None = None) -> ErrorCode:
        (code,) = self.core.leave("g", [(member_id, instance_id)], self.now)
        self.carry_out()
        return code

    def commit(self, offset: int, member_id: str = "", generation_id: int = -1, **more) -> int:
        partition = TopicPartition(more.pop("topic", "t"), more.pop("partition", 0))
        committed = CommittedOffset(offset, metadata=more.pop("metadata", ""))
        instance_id, retention_ms = more.pop("instance_id", None), more.pop("retention_ms", None)
        assert not more, more
        call = next(self._calls)
        asked = OffsetsToCommit("g", member_id, instance_id, generation_id, {partition: committed}, retention_ms)
        self.core.commit(call, asked, self.now)
        self.carry_out()
        return call

    def delete_group(self) -> int:
        call = next(self._calls)
        self.core.delete_group(call, "g")
        self.carry_out()
        return call

    def delete_offsets(self, *partitions: TopicPartition) -> int:
        call = next(self._calls)
        self.core.delete_offsets(call, "g", partitions)
        self.carry_out()
        return call

    def hang_up(self, call: int) -> None:
        self.core.abandoned("g", call, self.now)
        self.carry_out()

    # ---- what is heard

    def joined(self, call: int) -> JoinGroupResponse:
        answer = self.answers[call]
        assert isinstance(answer, JoinGroupResponse), answer
        return answer

    def synced(self, call: int) -> SyncGroupResponse:
        answer = self.answers[call]
        assert isinstance(answer, SyncGroupResponse), answer
        return answer

    def code(self, call: int) -> ErrorCode:
        """The error of an answer of any kind."""
        answer = self.answers[call]
        if isinstance(answer, dict):
            (answer,) = answer.values()
        return ErrorCode(answer if isinstance(answer, int) else answer.error_code)

    def offset(self, topic: str = "t", partition: int = 0) -> int | None:
        found = self.core.offsets_of("g").get(TopicPartition(topic, partition))
        return None if found is None else found.offset

    # ---- time and the log

    def wait(self, milliseconds: float) -> None:
        """Time passes, deadline by deadline."""
        until_ms = self.now_ms + milliseconds
        while (next_ms := self.core.next_deadline_ms) is not None and next_ms <= until_ms:
            self.now_ms = max(self.now_ms, next_ms)
            self.core.expire(self.now)
            self.carry_out()
        self.now_ms = until_ms

    def commit_log(self, count: int | None = None) -> None:
        """The first `count` writes in doubt (all) are safe."""
        for write in self.in_doubt[:count]:
            self.log += write.records
            write.committed(self.now)
        del self.in_doubt[:count]
        self.carry_out()

    def refuse_writes(self, code: ErrorCode) -> None:
        """What is in doubt was not written at all."""
        refused, self.in_doubt = self.in_doubt, []
        for write in refused:
            write.failed(code, self.now)
        self.carry_out()

    def carry_out(self) -> None:
        effects = self.core.effects
        while effects.writes or effects.answers:
            for write in effects.take_writes():
                write.appended()
                self.in_doubt.append(write)
            for call, answer in effects.take_answers():
                assert call not in self.answers, f"call {call} is answered twice"
                self.answers[call] = answer
                if isinstance(answer, JoinGroupResponse) and answer.members and not answer.skip_assignment:
                    generation = (self.core.groups.get("g"), answer.generation_id)
                    assert answer.leader == self._leaders.setdefault(generation, answer.leader), "two leaders"
            if self.is_prompt and self.in_doubt:
                self.commit_log()

    def successor(self) -> "Conversation":
        """The next coordinator, which knows what the log says."""
        other = Conversation(is_prompt=self.is_prompt)
        other.settings, other.core = self.settings, GroupCoordinator(self.settings)
        other.now_ms, other.log = self.now_ms, list(self.log)
        other._calls, other._ids = self._calls, self._ids
        for key, value in self.log:
            record = read_record(key, value)
            assert record is not None
            other.core.load(record, self.now)
        other.core.loaded(self.now, topics={"t": 1, "u": 1})
        other.carry_out()
        return other

    # ---- whole stories

    def stable(self, *names: str, **request) -> dict[str, JoinGroupResponse]:
        """A group of these members, each with its own name as its assignment; what each was told at its join."""
        calls = {name: self.join(name=name, **request) for name in names}
        if len(names) > 1:  # the first was alone at first, and comes again when it hears of the others
            first = self.joined(calls[names[0]])
            calls[names[0]] = self.join(first.member_id, **request)
            self.wait(0)
        told = {name: self.joined(call) for name, call in calls.items()}
        self.sync_all(told)
        return told

    def sync_all(self, told: dict[str, JoinGroupResponse]) -> dict[str, int]:
        assignments = {joined.member_id: name.encode() for name, joined in told.items()}
        return {
            name: self.sync(joined, assignments if joined.leader == joined.member_id else None)
            for name, joined in told.items()
        }


def codes(conversation: Conversation, calls: Iterable[int]) -> list[ErrorCode]:
    return [conversation.code(call) for call in calls]
