"""One classic consumer group: who belongs to it, in which generation, and what each of them was assigned.

A pure state machine. It takes requests and the time and puts into its `Effects` what should happen: answers, records,
deadlines. Rules and codes are Kafka's, so that every client's idea of a rebalance holds: eager and cooperative are the
same to a coordinator (KIP-429), members get their id first (KIP-394), static ones keep their place (KIP-345).
Refuses, with the code that makes a client do the right thing, whoever is not a member, is of another generation, or was
replaced (fencing). Invariants:
- one generation has one leader, and its assignments are in the log before anybody is told of them;
- every call is answered once: with its result, or with why there will be none;
- whoever waits for an answer is alive; everybody else must be heard of within its session timeout;
- a generation begins with all who came in time, and nobody else but static members, who may be away for a while.
"""

from collections.abc import Mapping
from typing import Final

from broker.groups.effects import Call, Committed, Deadline, Effects, Event, Failed, Now, Write
from broker.groups.fencing import known_member, present_member
from broker.groups.gathering import Gathering
from broker.groups.group_answers import joined, replaced, synced
from broker.groups.group_state import GroupState
from broker.groups.group_value import stored_member, stored_value
from broker.groups.member import NO_BYTES, Joining, Member, Members, Protocol
from broker.groups.offsets import GroupOffsets
from broker.groups.records import GroupMetadataValue, group_record
from broker.groups.settings import GroupSettings
from wire.errors import ErrorCode
from wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

NO_GENERATION: Final = -1
NO_MEMBER: Final = ""


class Group:
    """One group at its coordinator."""

    def __init__(self, group_id: str, effects: Effects, settings: GroupSettings, *, wall_ms: int) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.state_since_ms = wall_ms
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.members = Members()
        self.offsets = GroupOffsets()
        self.stored_count = 0
        """How often its members were written; 0: the log says nothing of them."""
        self._effects = effects
        self._settings = settings
        self._pending: dict[str, None] = {}  # ids that were given and have not come back yet
        self._unsynced: dict[str, None] = {}  # members of this generation that have not asked for their assignment
        self._storing: int | None = None  # the generation whose assignments are being written
        self._gathering: Gathering | None = None  # a new group waits for more members

    def __repr__(self) -> str:
        return f"Group({self.group_id!r}, {self.state}, generation {self.generation_id}, {len(self.members)} members)"

    @property
    def is_nothing(self) -> bool:
        """There is nothing to remember."""
        is_idle = self.state is GroupState.EMPTY and not self._pending and not self.stored_count
        return is_idle and not self.offsets

    # ---- joining

    def join(self, call: Call, joining: Joining, now: Now) -> None:
        request = joining.request
        member_id, protocols = request.member_id, joining.protocols
        if not self._has_room(request, protocols):
            if (member := self.members.get(member_id)) is not None:
                self._remove_and_rebalance(member, now)
            self._refuse_join(call, ErrorCode.GROUP_MAX_SIZE_REACHED, member_id)
        elif not self._speaks(request.protocol_type, protocols):
            self._refuse_join(call, ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)
        elif member_id:
            self._join_again(call, joining, now)
        elif request.group_instance_id is not None:
            self._join_as_instance(call, joining, request.group_instance_id, now)
        elif joining.requires_member_id:
            self._pending[joining.new_member_id] = None
            self._set(Event.PENDING_JOIN, now.monotonic_ms + request.session_timeout_ms, joining.new_member_id)
            self._refuse_join(call, ErrorCode.MEMBER_ID_REQUIRED, joining.new_member_id)
        else:
            self._add(call, joining.as_member(joining.new_member_id, knows_its_id=False), now, request.protocol_type)

    def _has_room(self, request: JoinGroupRequest, protocols: tuple[Protocol, ...]) -> bool:
        """Bounds what the group holds; while it rebalances, the first to come are let in, as in Kafka."""
        member_id, instance_id, limit = request.member_id, request.group_instance_id, self._settings.members_max
        member = self.members.get(member_id) if instance_id is None else self.members.of_instance(instance_id)
        if self.members.bytes_with(member, protocols) > self._settings.group_metadata_bytes_max:
            return False
        if member is None and member_id not in self._pending and len(self._pending) >= limit:
            return False
        if self.state is GroupState.PREPARING_REBALANCE:
            is_waiting = member is not None and member.joining is not None
            return is_waiting or self.members.joining_count < limit
        return member is not None or len(self.members) < limit

    def _speaks(self, protocol_type: str, protocols: tuple[Protocol, ...]) -> bool:
        is_same_type = not len(self.members) or protocol_type == self.protocol_type
        return bool(protocol_type) and is_same_type and self.members.all_speak_one_of(protocols)

    def _join_again(self, call: Call, joining: Joining, now: Now) -> None:
        request = joining.request
        member_id, instance_id = request.member_id, request.group_instance_id
        if member_id in self._pending and instance_id is None:
            del self._pending[member_id]
            self._clear(Event.PENDING_JOIN, member_id)
            self._add(call, joining.as_member(member_id, knows_its_id=True), now, request.protocol_type)
            return
        member, refusal = known_member(self, member_id, instance_id)
        if member is None:
            self._refuse_join(call, refusal, member_id)
            return
        has_changed = member.protocols != joining.protocols
        is_stable = self.state is GroupState.STABLE and member_id != self.leader_id
        if not has_changed and (is_stable or self.state is GroupState.COMPLETING_REBALANCE):
            self._hear_of(member, now)  # it lost its answer
            self._effects.answer(call, joined(self, member))
            return
        self.members.change(member, joining.as_member(member_id, knows_its_id=True))
        self._wait_for_join(member, call)
        self._rebalance(now)

    def _add(self, call: Call, member: Member, now: Now, protocol_type: str) -> None:
        if not len(self.members):
            self.protocol_type = protocol_type
        self.members.add(member)
        if self.leader_id is None:
            self.leader_id = member.member_id
        if self._gathering is not None:
            self._gathering.has_newcomer = True
        self._wait_for_join(member, call)
        self._rebalance(now)

    def _wait_for_join(self, member: Member, call: Call) -> None:
        before = self.members.wait_for_join(member, call)
        if before is not None:
            self._refuse_join(before, ErrorCode.REBALANCE_IN_PROGRESS, member.member_id)
        self._clear(Event.SESSION, member.member_id)

    def _refuse_join(self, call: Call, code: ErrorCode, member_id: str) -> None:
        self._effects.answer(call, JoinGroupResponse(error_code=code, member_id=member_id))

    # ---- static members (KIP-345)

    def _join_as_instance(self, call: Call, joining: Joining, instance_id: str, now: Now) -> None:
        """A member with a name of its own: if it was here before, it takes its old place, and the old one is fenced."""
        member = self.members.of_instance(instance_id)
        told = joining.as_member(joining.new_member_id, knows_its_id=True)
        if member is None:
            self._add(call, told, now, joining.request.protocol_type)
            return
        old_leader = self.leader_id
        self._fence(member, now)
        self._rename(member, joining.new_member_id)
        self.members.change(member, told)
        if self.state is not GroupState.STABLE or self.members.voted_protocol() != self.protocol_name:
            self._wait_for_join(member, call)
            self._rebalance(now, is_needed=self.state is not GroupState.PREPARING_REBALANCE)
            return
        self._hear_of(member, now)
        self._store_replacement(call, member, joining, old_leader)

    def _fence(self, member: Member, now: Now) -> None:
        code = ErrorCode.FENCED_INSTANCE_ID
        if (call := self.members.joined(member)) is not None:
            self._refuse_join(call, code, member.member_id)
        self._refuse_sync(member, code, now)

    def _rename(self, member: Member, member_id: str) -> None:
        old_id = member.member_id
        self._clear(Event.SESSION, old_id)
        self.members.rename(member, member_id)
        if self.leader_id == old_id:
            self.leader_id = member_id
        if old_id in self._unsynced:
            del self._unsynced[old_id]
            self._unsynced[member_id] = None

    def _store_replacement(self, call: Call, member: Member, joining: Joining, old_leader: str | None) -> None:
        """Nothing is to be assigned anew: the group goes on, once the log knows the member's new id.

        Where that fails the old id stays fenced, since the log may know the new one after all; who came back asks anew.
        """
        member_id, told = member.member_id, replaced(self, member, joining, old_leader)
        answer = self._effects.once(call)

        def committed(_: Now) -> None:
            is_fenced = self.members.get(member_id) is not member
            answer(JoinGroupResponse(error_code=ErrorCode.FENCED_INSTANCE_ID) if is_fenced else told)

        def failed(code: ErrorCode, _: Now) -> None:
            answer(JoinGroupResponse(error_code=code))

        self._store({one.member_id: one.assignment for one in self.members}, committed, failed)

    # ---- rebalancing

    def _rebalance(self, now: Now, *, is_needed: bool = True) -> None:
        """Begin one unless it is under way, and end it where everybody is there."""
        if is_needed and self.state is not GroupState.PREPARING_REBALANCE:
            self._prepare(now)
        self._complete_if_all_joined(now)

    def _prepare(self, now: Now) -> None:
        was_empty = self.state is GroupState.EMPTY
        if self.state is GroupState.COMPLETING_REBALANCE:
            self._forget_assignments(ErrorCode.REBALANCE_IN_PROGRESS, now)
        self._turn(GroupState.PREPARING_REBALANCE, now)
        self._unsynced.clear()
        self._clear(Event.SYNC)
        timeout_ms = self._rebalance_timeout_ms()
        delay_ms = min(self._settings.initial_rebalance_delay_ms, timeout_ms)
        self._gathering = Gathering(delay_ms, timeout_ms) if was_empty and delay_ms > 0 else None
        self._set(Event.REBALANCE, now.monotonic_ms + (timeout_ms if self._gathering is None else delay_ms))

    def rebalance_due(self, now: Now) -> None:
        """The time to join is over, or that in which a new group waits for more members."""
        more_ms = 0 if self._gathering is None else self._gathering.more_ms()
        if more_ms > 0:
            self._set(Event.REBALANCE, now.monotonic_ms + more_ms)
            return
        self._gathering = None
        self._complete(now)

    def _complete_if_all_joined(self, now: Now) -> None:
        is_preparing = self.state is GroupState.PREPARING_REBALANCE and self._gathering is None
        if is_preparing and not self._pending and self.members.joining_count == len(self.members):
            self._complete(now)

    def _complete(self, now: Now) -> None:
        """The next generation: with all who joined, and static members that are away for now."""
        for member in [one for one in self.members if one.joining is None and one.instance_id is None]:
            self._remove(member)
        self._clear(Event.REBALANCE)
        if len(self.members) and not self._elect_leader():
            self._set(Event.REBALANCE, now.monotonic_ms + self._rebalance_timeout_ms())
            return  # all are static and away: they come back, or their sessions end
        self.generation_id += 1
        if not len(self.members):
            self._become_empty(now)
            return
        self.protocol_name = self.members.voted_protocol()
        self._turn(GroupState.COMPLETING_REBALANCE, now)
        for member in self.members:
            call = self.members.joined(member)
            if call is not None:
                member.knows_its_id = True
                self._unsynced[member.member_id] = None
                self._effects.answer(call, joined(self, member))
                self._hear_of(member, now)
        self._set(Event.SYNC, now.monotonic_ms + self._rebalance_timeout_ms())

    def _elect_leader(self) -> bool:
        leader = self.members.get(self.leader_id or NO_MEMBER)
        if leader is None or leader.joining is None:
            leader = next((one for one in self.members if one.joining is not None), None)
        if leader is not None:
            self.leader_id = leader.member_id
        return leader is not None

    def _become_empty(self, now: Now) -> None:
        self.protocol_name = self.leader_id = None
        self._turn(GroupState.EMPTY, now)
        if self.stored_count:
            self._store({}, lambda _: None, lambda _code, _now: None)

    def sync_due(self, now: Now) -> None:
        """Who did not ask for its assignment in time is not alive, whatever its heartbeats say."""
        if self._unsynced and self.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE):
            for member_id in list(self._unsynced):
                if (member := self.members.get(member_id)) is not None:
                    self._remove(member)
            self._rebalance(now)

    def _rebalance_timeout_ms(self) -> int:
        return max((one.rebalance_timeout_ms for one in self.members), default=0)

    # ---- assignments

    def sync(self, call: Call, request: SyncGroupRequest, now: Now) -> None:
        member, refusal = present_member(self, request.member_id, request.group_instance_id, request.generation_id)
        if member is not None:
            refusal = self._cannot_sync(request)
        if member is None or refusal is not ErrorCode.NONE:
            self._effects.answer(call, SyncGroupResponse(error_code=refusal))
            return
        self._unsynced.pop(member.member_id, None)
        if self.state is GroupState.STABLE:
            self._hear_of(member, now)
            self._effects.answer(call, synced(self, member))
            return
        self._refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, now)
        member.syncing = call
        self._clear(Event.SESSION, member.member_id)
        if member.member_id == self.leader_id and self._storing != self.generation_id:
            self._store_assignments({one.member_id: one.assignment for one in request.assignments})

    def _cannot_sync(self, request: SyncGroupRequest) -> ErrorCode:
        if self.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        protocol = (request.protocol_type, request.protocol_name)
        if any(ours != theirs for ours, theirs in zip(self._protocol(), protocol, strict=True) if theirs is not None):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.NONE

    def _protocol(self) -> tuple[str | None, str | None]:
        return self.protocol_type, self.protocol_name

    def _store_assignments(self, assignments: Mapping[str, bytes]) -> None:
        generation_id = self._storing = self.generation_id

        def is_awaited() -> bool:
            if self._storing == generation_id:
                self._storing = None
            return self.generation_id == generation_id and self.state is GroupState.COMPLETING_REBALANCE

        def committed(now: Now) -> None:
            if is_awaited():
                self._assign(assignments, now)

        def failed(code: ErrorCode, now: Now) -> None:
            if is_awaited():
                self._forget_assignments(code, now)
                self._rebalance(now)

        self._store(assignments, committed, failed)

    def _assign(self, assignments: Mapping[str, bytes], now: Now) -> None:
        self._turn(GroupState.STABLE, now)
        for member in self.members:
            member.assignment = assignments.get(member.member_id, NO_BYTES)
            if member.syncing is not None:
                call, member.syncing = member.syncing, None
                self._effects.answer(call, synced(self, member))
                self._hear_of(member, now)

    def _forget_assignments(self, code: ErrorCode, now: Now) -> None:
        for member in self.members:
            member.assignment = NO_BYTES
            self._refuse_sync(member, code, now)

    def _refuse_sync(self, member: Member, code: ErrorCode, now: Now) -> None:
        if member.syncing is not None:
            self._effects.answer(member.syncing, SyncGroupResponse(error_code=code))
            member.syncing = None
            self._hear_of(member, now)

    def _store(self, assignments: Mapping[str, bytes], committed: Committed, failed: Failed) -> None:
        """Write the group as it is now, with these assignments."""
        self.stored_count += 1
        record = group_record(self.group_id, stored_value(self, assignments))
        self._effects.writes.append(Write([record], committed, failed))

    def restore(self, value: GroupMetadataValue | None) -> None:
        """Become what the log says, which may say more of it later; `begin` follows once all of it was read."""
        self.stored_count = 0 if value is None else 1
        self.members = Members()
        value = value or GroupMetadataValue()
        self.protocol_type = value.protocol_type or None
        self.generation_id, self.protocol_name, self.leader_id = value.generation, value.protocol, value.leader
        self.state = GroupState.STABLE if value.members else GroupState.EMPTY
        self.state_since_ms = value.current_state_timestamp
        for one in value.members:
            is_twice = one.group_instance_id and self.members.of_instance(one.group_instance_id)
            if one.member_id not in self.members and not is_twice:  # whoever wrote that, it must not stop a node
                self.members.add(stored_member(value, one))

    def begin(self, now: Now) -> None:
        """A new coordinator has read the group: from now on its members must be heard of."""
        for member in self.members:
            self._hear_of(member, now)

    # ---- staying and leaving

    def heartbeat(self, member_id: str, instance_id: str | None, generation_id: int, now: Now) -> ErrorCode:
        member, refusal = present_member(self, member_id, instance_id, generation_id)
        if member is None:
            return refusal
        self._hear_of(member, now)
        if self.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(self, member_id: str, instance_id: str | None, now: Now) -> ErrorCode:
        """Answered at once; an administrator names a static member by its instance id alone."""
        if member_id in self._pending:
            self.pending_join_due(member_id, now)
            return ErrorCode.NONE
        if not member_id and instance_id is not None:
            member = self.members.of_instance(instance_id)
            refusal = ErrorCode.UNKNOWN_MEMBER_ID
        else:
            member, refusal = known_member(self, member_id, instance_id)
        if member is None:
            return refusal
        self._remove_and_rebalance(member, now)
        return ErrorCode.NONE

    def session_due(self, member_id: str, now: Now) -> None:
        """It was not heard of for its session timeout."""
        member = self.members.get(member_id)
        if member is not None:
            assert member.joining is None, member
            assert member.syncing is None, member
            self._remove_and_rebalance(member, now)

    def pending_join_due(self, member_id: str, now: Now) -> None:
        """Nobody came back with the id that was given."""
        self._pending.pop(member_id, None)
        self._clear(Event.PENDING_JOIN, member_id)
        self._complete_if_all_joined(now)

    def abandoned(self, call: Call, now: Now) -> None:
        """Whoever asked is gone, and its answer with it: the member must be heard of again, if it knows who it is."""
        for member in self.members:
            if member.joining == call:
                self.members.joined(member)
                if member.knows_its_id:
                    self._hear_of(member, now)
                else:
                    self._remove_and_rebalance(member, now)
                return
            if member.syncing == call:
                member.syncing = None
                self._hear_of(member, now)
                return

    def heard_of(self, member_id: str, now: Now) -> None:
        """It did something else that only the living do; no effect for nobody."""
        if (member := self.members.get(member_id)) is not None:
            self._hear_of(member, now)

    # ---- small steps

    def _remove_and_rebalance(self, member: Member, now: Now) -> None:
        self._remove(member)
        self._rebalance(now, is_needed=self.state is not GroupState.EMPTY)

    def _remove(self, member: Member) -> None:
        member_id = member.member_id
        if (call := self.members.joined(member)) is not None:
            self._refuse_join(call, ErrorCode.UNKNOWN_MEMBER_ID, member_id)
        if member.syncing is not None:
            self._effects.answer(member.syncing, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))
            member.syncing = None
        self.members.remove(member)
        self._unsynced.pop(member_id, None)
        self._clear(Event.SESSION, member_id)
        if self.leader_id == member_id:
            self.leader_id = next((one.member_id for one in self.members), None)

    def _hear_of(self, member: Member, now: Now) -> None:
        """It is alive; one that waits for an answer needs no deadline."""
        if member.joining is None and member.syncing is None:
            self._set(Event.SESSION, now.monotonic_ms + member.session_timeout_ms, member.member_id)

    def _turn(self, state: GroupState, now: Now) -> None:
        self.state = state
        self.state_since_ms = now.wall_ms

    def _set(self, event: Event, at_ms: float, member_id: str = NO_MEMBER) -> None:
        self._effects.deadlines.set(Deadline(event, self.group_id, member_id), at_ms)

    def _clear(self, event: Event, member_id: str = NO_MEMBER) -> None:
        self._effects.deadlines.clear(Deadline(event, self.group_id, member_id))
