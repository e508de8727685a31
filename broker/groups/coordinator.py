"""The coordinator of the groups of one partition of the offsets topic, as a pure core.

Takes requests, records of the log and the time; puts answers, records to write and deadlines into its `effects`, which
its driver (`host.py`) carries out after each call: append, answer, wait for the next deadline. Owns the groups and
their offsets. Refuses, with Kafka's codes, what a group's rules and the bounds of `GroupSettings` do not allow.
Invariants:
- committed offsets are the fold of the log below its high watermark: what a new coordinator will read is what this one
  answers with, and a commit is answered "done" only then;
- a commit of a former member or generation changes nothing (fencing), so offsets never go back by one;
- a group without members, offsets and a record in the log is forgotten: nobody can fill memory with names for long.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from broker.groups.effects import Call, Effects, Event, LogRecord, Now, Write
from broker.groups.fencing import commit_refusal
from broker.groups.group import Group
from broker.groups.group_state import GroupState
from broker.groups.member import Joining
from broker.groups.offsets import CommittedOffset, GroupOffsets, TopicPartition
from broker.groups.records import GroupRecord, OffsetRecord, group_record, offset_record
from broker.groups.settings import GroupSettings
from broker.groups.subscription import CONSUMER, subscribed_topics
from wire.errors import ErrorCode
from wire.messages.join_group import JoinGroupResponse
from wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

NO_OFFSETS: Final = GroupOffsets()
Codes = Mapping[TopicPartition, ErrorCode]


class OffsetsToCommit(NamedTuple):
    """A commit, by whom. Generation -1 and no member: whoever assigns its partitions itself."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation_id: int
    offsets: Mapping[TopicPartition, CommittedOffset]
    retention_ms: int | None = None
    """Its own; None: the cluster's (`offsets.retention.minutes`)."""


class GroupCoordinator:
    """The groups whose records lie in one partition."""

    def __init__(self, settings: GroupSettings) -> None:
        self.effects = Effects()
        self.groups: dict[str, Group] = {}
        self._settings = settings
        self._under_way: dict[str, Counter[TopicPartition]] = {}
        """By group: of which partitions offsets are in the log and not committed yet."""

    # ---- members

    def join(self, call: Call, joining: Joining, now: Now) -> None:
        """Answered with a JoinGroupResponse, when the group is complete."""
        request = joining.request
        refusal = self._cannot_join(joining)
        group = self.groups.get(request.group_id)
        if refusal is ErrorCode.NONE and group is None and request.member_id:
            refusal = ErrorCode.UNKNOWN_MEMBER_ID
        if refusal is not ErrorCode.NONE:
            self.effects.answer(call, JoinGroupResponse(error_code=refusal, member_id=request.member_id))
            return
        group = group or self._new(request.group_id, now)
        group.join(call, joining, now)
        self._forget_if_nothing(group)

    def _cannot_join(self, joining: Joining) -> ErrorCode:
        request, settings = joining.request, self._settings
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        if not settings.session_timeout_ms_min <= request.session_timeout_ms <= settings.session_timeout_ms_max:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        if sum(len(one.metadata) + len(one.name) for one in request.protocols) > settings.member_metadata_bytes_max:
            return ErrorCode.INVALID_REQUEST
        return self._unavailable(request.group_id)

    def sync(self, call: Call, request: SyncGroupRequest, now: Now) -> None:
        """Answered with a SyncGroupResponse, once the leader's assignments are in the log."""
        group, refusal = self._active(request.group_id)
        if group is None:
            self.effects.answer(call, SyncGroupResponse(error_code=refusal))
        else:
            group.sync(call, request, now)

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation_id: int, now: Now
    ) -> ErrorCode:
        group, refusal = self._active(group_id)
        return refusal if group is None else group.heartbeat(member_id, instance_id, generation_id, now)

    def leave(self, group_id: str, members: Iterable[tuple[str, str | None]], now: Now) -> list[ErrorCode]:
        """One code for each (member id, instance id)."""
        group, refusal = self._active(group_id)
        if group is None:
            return [refusal for _ in members]
        codes = [group.leave(member_id, instance_id, now) for member_id, instance_id in members]
        self._forget_if_nothing(group)
        return codes

    def abandoned(self, group_id: str, call: Call, now: Now) -> None:
        """Whoever made this call is gone."""
        if (group := self.groups.get(group_id)) is not None:
            group.abandoned(call, now)
            self._forget_if_nothing(group)

    # ---- offsets

    def commit(self, call: Call, commit: OffsetsToCommit, now: Now) -> None:
        """Answered with a code for each partition, once the offsets are committed in the log; here they get their time.

        GROUP_ID_NOT_FOUND: a group of which nothing is known has no generation.
        """
        refusal = self._cannot_commit(commit)
        if refusal is not ErrorCode.NONE:
            self.effects.answer(call, dict.fromkeys(commit.offsets, refusal))
            return
        group = self.groups.get(commit.group_id) or self._new(commit.group_id, now)
        group.heard_of(commit.member_id, now)
        limit = self._settings.offset_metadata_bytes_max
        codes = dict.fromkeys(commit.offsets, ErrorCode.NONE)
        accepted = {}
        expires_at_ms = None if commit.retention_ms is None else now.wall_ms + commit.retention_ms
        for partition, offset in commit.offsets.items():
            if len(offset.metadata.encode()) > limit:
                codes[partition] = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                accepted[partition] = offset._replace(
                    commit_timestamp_ms=now.wall_ms, expire_timestamp_ms=expires_at_ms
                )
        if not accepted:
            self.effects.answer(call, codes)
            self._forget_if_nothing(group)
            return
        self._write_offsets(group, accepted, answer=self._once(call, codes))

    def _once(self, call: Call, codes: Codes) -> Callable[[ErrorCode], None]:
        """Answers with `codes`, and for what they let through with the outcome of the write."""
        answer = self.effects.once(call)

        def ended(code: ErrorCode) -> None:
            outcome = ErrorCode.INVALID_COMMIT_OFFSET_SIZE if code is ErrorCode.MESSAGE_TOO_LARGE else code
            answer({partition: refused or outcome for partition, refused in codes.items()})

        return ended

    def _cannot_commit(self, commit: OffsetsToCommit) -> ErrorCode:
        unavailable = self._unavailable(commit.group_id)
        group = self.groups.get(commit.group_id)
        if unavailable is not ErrorCode.NONE:
            return unavailable
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND if commit.generation_id >= 0 else ErrorCode.NONE
        return commit_refusal(group, commit.member_id, commit.instance_id, commit.generation_id)

    def _write_offsets(
        self,
        group: Group,
        offsets: Mapping[TopicPartition, CommittedOffset | None],
        *,
        answer: Callable[[ErrorCode], None],
        more: Iterable[LogRecord] = (),
    ) -> None:
        """Into the log, and, when they are safe there, into the group; None deletes."""
        kept = [partition for partition, offset in offsets.items() if offset is not None]

        def appended() -> None:
            if kept:
                self._under_way.setdefault(group.group_id, Counter()).update(kept)

        def committed(now: Now) -> None:
            self._no_more_under_way(group.group_id, kept)
            present = self.groups.get(group.group_id) or self._new(group.group_id, now)
            for partition, offset in offsets.items():
                if offset is None:
                    present.offsets.forget(partition)
                else:
                    present.offsets.commit(partition, offset)
            answer(ErrorCode.NONE)
            self._forget_if_nothing(present)

        def failed(code: ErrorCode, _: Now) -> None:
            answer(code)
            self._forget_if_nothing(group)

        records = [offset_record(group.group_id, partition, offset) for partition, offset in offsets.items()]
        self.effects.writes.append(Write([*records, *more], committed, failed, appended))

    def _no_more_under_way(self, group_id: str, partitions: list[TopicPartition]) -> None:
        if partitions:
            self._under_way[group_id] -= Counter(partitions)
            if not self._under_way[group_id]:
                del self._under_way[group_id]

    def offsets_of(self, group_id: str) -> GroupOffsets:
        """What the group has committed; nothing for a group that is not known."""
        group = self.groups.get(group_id)
        return NO_OFFSETS if group is None else group.offsets

    # ---- administration

    def delete_offsets(self, call: Call, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Answered with a code for each partition, or with one where the whole group can't have any deleted."""
        group = self.known(group_id)
        if group is None:
            self.effects.answer(call, ErrorCode.GROUP_ID_NOT_FOUND)
            return
        if group.state is not GroupState.EMPTY and group.protocol_type != CONSUMER:
            self.effects.answer(call, ErrorCode.NON_EMPTY_GROUP)
            return
        in_use = self._topics_in_use(group)
        codes = {}
        for one in partitions:
            is_free = in_use is not None and one.topic not in in_use
            codes[one] = ErrorCode.NONE if is_free else ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        deleted = [one for one, code in codes.items() if not code and group.offsets.get(one) is not None]
        if deleted:
            self._write_offsets(group, dict.fromkeys(deleted), answer=self._once(call, codes))
        else:
            self.effects.answer(call, codes)

    def delete_group(self, call: Call, group_id: str) -> None:
        """Answered with a code, once the log has forgotten the group."""
        group = self.known(group_id)
        if group is None:
            self.effects.answer(call, ErrorCode.GROUP_ID_NOT_FOUND)
        elif group.state is not GroupState.EMPTY:
            self.effects.answer(call, ErrorCode.NON_EMPTY_GROUP)
        else:
            self._bury(group, [one for one, _ in group.offsets], self.effects.once(call))

    def _bury(self, group: Group, offsets: Iterable[TopicPartition], answer: Callable[[ErrorCode], None]) -> None:
        """Delete the group with what it has left; nobody can use it meanwhile."""
        group.state = GroupState.DEAD
        stored_count = group.stored_count

        def ended(code: ErrorCode) -> None:
            if group.state is GroupState.DEAD:
                group.state = GroupState.EMPTY
            if code is ErrorCode.NONE and group.stored_count == stored_count:
                group.stored_count = 0
            answer(code)

        tombstone = group_record(group.group_id, None)
        self._write_offsets(group, dict.fromkeys(offsets), answer=ended, more=[tombstone])

    def known(self, group_id: str) -> Group | None:
        """None also for a group that is being deleted."""
        group = self.groups.get(group_id)
        return None if group is None or group.state is GroupState.DEAD else group

    # ---- time

    @property
    def next_deadline_ms(self) -> float | None:
        return self.effects.deadlines.next_ms

    def expire(self, now: Now) -> None:
        """Do what is due."""
        while (due := self.effects.deadlines.pop_due(now.monotonic_ms)) is not None:
            group, member_id = self.groups.get(due.group_id), due.member_id
            if group is None:
                continue
            match due.event:
                case Event.SESSION:
                    group.session_due(member_id, now)
                case Event.PENDING_JOIN:
                    group.pending_join_due(member_id, now)
                case Event.REBALANCE:
                    group.rebalance_due(now)
                case Event.SYNC:
                    group.sync_due(now)
            self._forget_if_nothing(group)

    def expire_offsets(self, group_ids: Iterable[str], now: Now) -> None:
        """Drop what nobody is going to ask for of these groups, and those that have nothing left.

        Not what is being committed anew: the deletion would come behind it in the log.
        """
        for group in filter(None, map(self.known, group_ids)):
            under_way = self._under_way.get(group.group_id, ())
            is_managed = group.protocol_type is not None and group.state is GroupState.EMPTY
            expired = group.offsets.expired(
                wall_ms=now.wall_ms,
                retention_ms=self._settings.offsets_retention_ms,
                idle_since_ms=group.state_since_ms if is_managed else None,
                in_use=self._topics_in_use(group),
            )
            self._delete_unused(group, [one for one in expired if one not in under_way])

    def forget_topics(self, names: Iterable[str]) -> None:
        """These topics were deleted: whoever makes one of the same name does not get their offsets (S17).

        Nor those that are being committed: their deletion comes behind them in the log.
        """
        names = dict.fromkeys(names)
        for group in list(self.groups.values()):
            if group.state is not GroupState.DEAD:
                under_way = (one for one in self._under_way.get(group.group_id, ()) if one.topic in names)
                self._delete_unused(group, list(dict.fromkeys([*group.offsets.of_topics(names), *under_way])))

    def _delete_unused(self, group: Group, offsets: list[TopicPartition]) -> None:
        has_all = {one for one, _ in group.offsets} <= set(offsets)
        if has_all and group.state is GroupState.EMPTY and (offsets or group.stored_count):
            self._bury(group, offsets, lambda _: None)
        elif offsets:
            self._write_offsets(group, dict.fromkeys(offsets), answer=lambda _: None)

    @staticmethod
    def _topics_in_use(group: Group) -> set[str] | None:
        return set() if group.state is GroupState.EMPTY else subscribed_topics(group)

    # ---- the log

    def load(self, record: OffsetRecord | GroupRecord, now: Now) -> None:
        """One record of the log, in its order, before any request."""
        group = self.groups.get(record.group_id) or self._new(record.group_id, now)
        if isinstance(record, GroupRecord):
            group.restore(record.value)
        elif record.committed is None:
            group.offsets.forget(record.partition)
        else:
            group.offsets.commit(record.partition, record.committed)
        self._forget_if_nothing(group)

    def loaded(self, now: Now, *, topics: Mapping[str, object]) -> None:
        """All was read: the members' sessions begin, and what belongs to topics that are gone goes."""
        for group in self.groups.values():
            group.begin(now)
        names = {name for group in self.groups.values() for name in group.offsets.by_topic}
        self.forget_topics(names - topics.keys())

    # ---- small steps

    def _new(self, group_id: str, now: Now) -> Group:
        group = self.groups[group_id] = Group(group_id, self.effects, self._settings, wall_ms=now.wall_ms)
        return group

    def _active(self, group_id: str) -> tuple[Group | None, ErrorCode]:
        """A group that may have members; where there is none, the code for whoever takes itself for one."""
        group = self.groups.get(group_id)
        if group is None:
            return None, ErrorCode.UNKNOWN_MEMBER_ID if group_id else ErrorCode.INVALID_GROUP_ID
        if group.state is GroupState.DEAD:
            return None, ErrorCode.COORDINATOR_NOT_AVAILABLE
        return group, ErrorCode.NONE

    def _unavailable(self, group_id: str) -> ErrorCode:
        group = self.groups.get(group_id)
        is_dead = group is not None and group.state is GroupState.DEAD
        return ErrorCode.COORDINATOR_NOT_AVAILABLE if is_dead else ErrorCode.NONE

    def _forget_if_nothing(self, group: Group) -> None:
        is_nothing = group.is_nothing and group.group_id not in self._under_way
        if is_nothing and self.groups.get(group.group_id) is group:
            del self.groups[group.group_id]
