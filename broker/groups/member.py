"""The members of one classic group: who they are, what they can speak, what they wait for.

Owns the counts that a group asks for at every join (who waits, which protocols all speak), so that a thousand members
cost a thousand steps, not a million. Refuses nothing; the rules are `group.py`'s. Invariants: `joining_count` is the
number of members that wait for a join; each instance id names the one member that has it (KIP-345).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.groups.effects import Call
from wire.messages.join_group import JoinGroupRequest

NO_BYTES = b""


class Protocol(NamedTuple):
    """One way to divide the work that a member speaks, and what it has to say there (its topics)."""

    name: str
    metadata: bytes


@dataclass(eq=False, slots=True, kw_only=True)
class Member:
    """One member. `joining` and `syncing`: who waits for the answer to its JoinGroup or SyncGroup."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[Protocol, ...]
    assignment: bytes = NO_BYTES
    joining: Call | None = None
    syncing: Call | None = None
    knows_its_id: bool = True
    """False until an answer told it: if its connection ends before, nobody will ever use that id."""

    def metadata_for(self, protocol: str | None) -> bytes:
        return next((one.metadata for one in self.protocols if one.name == protocol), NO_BYTES)

    @property
    def metadata_bytes(self) -> int:
        return sum(len(one.metadata) for one in self.protocols)


class Joining(NamedTuple):
    """A JoinGroup with all that the request itself does not say. `new_member_id` is used where it brings none."""

    request: JoinGroupRequest
    client_id: str
    client_host: str
    new_member_id: str
    requires_member_id: bool = True
    """Version 4 on: a member without an id is given one first (KIP-394)."""
    may_skip_assignment: bool = True
    """Version 9 on: a leader can be told that nothing is to be assigned (KIP-814)."""

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        return tuple(Protocol(one.name, one.metadata) for one in self.request.protocols)

    def as_member(self, member_id: str, *, knows_its_id: bool) -> Member:
        request = self.request
        timeout_ms = request.rebalance_timeout_ms
        return Member(
            member_id=member_id,
            instance_id=request.group_instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=request.session_timeout_ms if timeout_ms < 0 else timeout_ms,
            protocols=self.protocols,
            knows_its_id=knows_its_id,
        )


class Members:
    """The members of one group by id, in the order of their joining."""

    __slots__ = ("_by_id", "_by_instance", "_speakers", "joining_count", "metadata_bytes")

    def __init__(self) -> None:
        self._by_id: dict[str, Member] = {}
        self._by_instance: dict[str, Member] = {}
        self._speakers: Counter[str] = Counter()
        self.joining_count = 0
        self.metadata_bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._by_id

    def get(self, member_id: str) -> Member | None:
        return self._by_id.get(member_id)

    def of_instance(self, instance_id: str) -> Member | None:
        return self._by_instance.get(instance_id)

    def add(self, member: Member) -> None:
        assert member.member_id not in self._by_id, member.member_id
        self._by_id[member.member_id] = member
        if member.instance_id is not None:
            assert member.instance_id not in self._by_instance, member.instance_id
            self._by_instance[member.instance_id] = member
        self._count(member, 1)

    def remove(self, member: Member) -> None:
        """It must not wait for anything any more."""
        assert self._by_id.pop(member.member_id) is member
        assert member.joining is None, member
        assert member.syncing is None, member
        if member.instance_id is not None:
            del self._by_instance[member.instance_id]
        self._count(member, -1)

    def change(self, member: Member, told: Member) -> None:
        """It says now of itself what `told` says, and stays who it is."""
        self._count(member, -1)
        member.client_id, member.client_host = told.client_id, told.client_host
        member.session_timeout_ms = told.session_timeout_ms
        member.rebalance_timeout_ms = told.rebalance_timeout_ms
        member.protocols = told.protocols
        self._count(member, 1)

    def rename(self, member: Member, member_id: str) -> None:
        """A static member came back: the same member under another id."""
        assert self._by_id.pop(member.member_id) is member
        member.member_id = member_id
        self._by_id[member_id] = member

    def wait_for_join(self, member: Member, call: Call) -> Call | None:
        """Who waited in its name until now is returned."""
        before, member.joining = member.joining, call
        self.joining_count += before is None
        return before

    def joined(self, member: Member) -> Call | None:
        """It waits no more; who waited is returned."""
        before, member.joining = member.joining, None
        self.joining_count -= before is not None
        return before

    def all_speak(self, name: str) -> bool:
        return self._speakers[name] == len(self._by_id)

    def all_speak_one_of(self, protocols: Sequence[Protocol]) -> bool:
        return any(self._speakers[one.name] == len(self._by_id) for one in protocols)

    def bytes_with(self, member: Member | None, protocols: Sequence[Protocol]) -> int:
        """What all say together once `member` (None: one more) says this."""
        before = 0 if member is None else member.metadata_bytes
        return self.metadata_bytes - before + sum(len(one.metadata) for one in protocols)

    def voted_protocol(self) -> str:
        """Each member votes for the first of its protocols that all speak; of equals, the first that got a vote."""
        votes: Counter[str] = Counter()
        for member in self:
            votes[next(one.name for one in member.protocols if self.all_speak(one.name))] += 1
        return votes.most_common(1)[0][0]

    def _count(self, member: Member, by: int) -> None:
        self.metadata_bytes += by * member.metadata_bytes
        for name in {one.name for one in member.protocols}:
            self._speakers[name] += by
            if not self._speakers[name]:
                del self._speakers[name]
