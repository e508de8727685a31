"""One consumer instance of v2: a consumer that lives at its group's coordinator, for a client that speaks HTTP.

Owns the positions (the next offset to give out) of what the instance was assigned by its group or by its client, what
was given out before the last poll (and so counts as done, for automatic commits), and the commits. Refuses to be
subscribed and assigned at once, and to commit or seek what is not its own (409): after a rebalance another member reads
on from the committed offset, and a late commit must not move it.
Invariants: a position moves only past records that are given out, or by a seek; a partition that comes back in the very
next generation keeps its position, since nobody else had it meanwhile, else it begins at the committed offset; an
automatic commit never covers what was given out by the last poll, unless the instance is deleted by its client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from api.http.errors import RETRIABLE, ApiError, bad_request, topic_not_found
from api.http.group_errors import (
    NOT_ASSIGNED,
    OTHER_PROTOCOL,
    SUBSCRIBED_OTHERWISE,
    instance_not_found,
    refused_by_coordinator,
)
from api.http.partitions import offsets_at_leader
from broker.groups.coordinator import Codes, OffsetsToCommit
from broker.groups.group import NO_GENERATION, NO_MEMBER
from broker.groups.membership import Identity, Membership
from broker.groups.offsets import CommittedOffset, TopicPartition
from wire.errors import ErrorCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from api.http.context import Context
    from api.http.instance_settings import InstanceSettings

AUTO_COMMIT_INTERVAL_S: Final = 5.0
"""Kafka's auto.commit.interval.ms."""
AT_ONCE: Final = 16
SETTLING_S: Final = 5.0
"""How long a commit waits for a rebalance that is under way."""
OUT_OF_RANGE: Final = 416


class ConsumerInstance:
    """Used on the node's loop; one poll at a time."""

    def __init__(
        self, context: Context, identity: Identity, instance_id: str, settings: InstanceSettings, now_s: float
    ) -> None:
        self.group_id = identity.group_id
        self.instance_id = instance_id
        self.settings = settings
        self.used_s = now_s
        self.polling = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set by whatever a poll that waits should look at: another assignment, a seek, the end."""
        self.positions: dict[TopicPartition, int] = {}
        self.is_over = False
        self._done: dict[TopicPartition, int] = {}
        self._committed_s = now_s
        self._committed: dict[TopicPartition, int] = {}
        self._context = context
        self._shard = context.node.groups.shard(self.group_id)
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._kept: tuple[int, dict[TopicPartition, int]] = (NO_GENERATION, {})
        self._membership: Membership | None = None
        self._identity = identity

    # ---- who reads what

    @property
    def topics(self) -> list[str]:
        return [] if self._membership is None else sorted(self._membership.topics)

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        return self._assigned if self._membership is None else self._membership.assignment

    @property
    def _generation(self) -> tuple[str, int] | None:
        """Whose offsets these are; None where it was assigned its partitions by hand."""
        return None if self._membership is None else (self._membership.member_id, self._membership.generation_id)

    @property
    def has_work(self) -> bool:
        """It is subscribed to something, or was assigned something by hand."""
        return self._membership is not None or bool(self._assigned)

    @property
    def is_lost(self) -> bool:
        """Its coordinator was another one, or one of another epoch: nobody can say what happened since."""
        moved = self.is_over or self._shard.is_over or (self._membership is not None and self._membership.is_over)
        return moved or not self._shard.leads

    def subscribe(self, topics: Iterable[str]) -> None:
        if self._assigned:
            raise self._otherwise("was assigned its partitions: POST assignments with none first")
        if self._membership is None:
            node = self._context.node
            self._membership = Membership(
                node.groups,
                lambda: node.image,
                self._identity,
                revoking=self._revoking,
                changed=self._membership_changed,
            )
        self._membership.subscribe(frozenset(topics))

    async def unsubscribe(self) -> None:
        """Leave the group; also gives up what was assigned by hand."""
        if self._membership is not None:
            await self._revoking()
            await self._membership.leave()
            self._membership = None
        self._forget_positions(frozenset())

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        if self._membership is not None:
            raise self._otherwise("is subscribed: DELETE its subscription first")
        self._assigned = frozenset(partitions)
        self._forget_positions(self._assigned)

    def _otherwise(self, what: str) -> ApiError:
        return ApiError(409, SUBSCRIBED_OTHERWISE, f"instance {self.instance_id!r} {what}")

    async def close(self) -> None:
        """Its client is done with it: what it was given counts as done."""
        self._done = dict(self.positions)
        await self.unsubscribe()
        self.is_over = True
        self.wake()

    async def abandon(self) -> None:
        """Nobody has used it for its timeout, or it was lost."""
        if self._membership is not None:
            await self._membership.leave()
        self.is_over = True
        self.wake()

    def wake(self) -> None:
        """Whoever waits in a poll looks again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _membership_changed(self) -> None:
        membership = self._membership
        if membership is not None and membership.is_joined:
            generation_id, kept = self._kept
            if membership.generation_id == generation_id + 1:
                self.positions = {one: at for one, at in kept.items() if one in membership.assignment} | self.positions
            self._forget_positions(membership.assignment)
        self.wake()

    async def _revoking(self) -> None:
        membership = self._membership
        if membership is None or not membership.is_joined:
            return
        if self.settings.auto_commit:
            await self._commit_done()
        self._kept = (membership.generation_id, dict(self.positions))
        self.positions = {}

    def _forget_positions(self, but: frozenset[TopicPartition]) -> None:
        for known in (self.positions, self._done, self._committed):
            for one in known.keys() - but:
                del known[one]
        self.wake()

    async def settled(self, timeout_s: float) -> bool:
        """Whether it has its assignment, within the time. Raises ApiError where the group does not take it."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while (membership := self._membership) is not None and not membership.is_joined:
            self.check()
            if membership.refusal is not None:
                raise self._refused(membership.refusal)
            left_s = until_s - loop.time()
            if left_s <= 0:
                return False
            changed = self.changed
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                return False
        self.check()
        return True

    def check(self) -> None:
        """404 where it is lost."""
        if self.is_lost:
            raise instance_not_found(self.group_id, self.instance_id)

    def _refused(self, code: ErrorCode) -> ApiError:
        if code is ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
            message = "the members of this group share no protocol with HTTP consumers: let one of these speak range,"
            return ApiError(409, OTHER_PROTOCOL, message + " roundrobin or cooperative-sticky, or use another group")
        if code is ErrorCode.GROUP_MAX_SIZE_REACHED:
            return ApiError(409, OTHER_PROTOCOL, "the group has as many members as group.max.size allows")
        return refused_by_coordinator(code, self.group_id)

    # ---- positions

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.check_owned(offsets)
        self.positions.update(offsets)
        self._done.update(offsets)
        self.wake()

    async def seek_to(self, partitions: Collection[TopicPartition], where: str) -> None:
        """`earliest` or `latest`."""
        self.check_owned(partitions)
        found = await self._offsets_at(partitions, where)
        for one in partitions:
            if one not in found:
                raise ApiError(503, RETRIABLE, f"partition {one.partition} of topic {one.topic!r} has no leader now")
        self.seek(found)

    def check_owned(self, partitions: Iterable[TopicPartition]) -> None:
        own = self.assignment
        for one in partitions:
            if one not in own:
                by_hand = self._membership is None
                how = "assign it first" if by_hand else "its group has given it to another, or is about to"
                message = f"partition {one.partition} of topic {one.topic!r} is not this instance's: {how}"
                details = {"topic": one.topic, "partition": one.partition}
                raise ApiError(409, NOT_ASSIGNED, message, details=details)

    async def find_positions(self) -> None:
        """Where to begin with what is new: at the committed offset, else as `auto.offset.reset` says."""
        fresh = [one for one in self.assignment if one not in self.positions]
        if not fresh:
            return
        offsets, generation = self._context.node.groups.offsets_of(self.group_id), self._generation
        committed = {one: found.offset for one in fresh if (found := offsets.get(one)) is not None}
        begun = await self._begin([one for one in fresh if one not in committed])
        if self._generation != generation:
            return  # others may have read on and committed meanwhile: look again
        own = self.assignment
        for one, offset in (committed | begun).items():
            if one in own:
                self.positions.setdefault(one, offset)
                self._done.setdefault(one, offset)

    async def _begin(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        where = self.settings.auto_offset_reset
        if where == "none" and partitions:
            one = min(partitions)
            raise bad_request(
                f"the group has not committed partition {one.partition} of topic {one.topic!r}, and auto.offset.reset"
                " is none: seek (POST positions), or reset the group's offsets"
            )
        return await self._offsets_at(partitions, where)

    async def _offsets_at(self, partitions: Collection[TopicPartition], where: str) -> dict[TopicPartition, int]:
        """Of those whose leaders answer; a deleted topic has none."""
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(one: TopicPartition) -> int | None:
            topic = self._context.node.image.topic(one.topic)
            if topic is None:
                return None
            async with room:
                try:
                    bounds, _ = await offsets_at_leader(self._context, topic, one.partition)
                except ApiError as error:
                    if error.status == RETRIABLE // 100:
                        return None
                    raise
            return int(bounds[f"{where}_offset"])

        found = zip(partitions, await asyncio.gather(*map(ask, partitions)), strict=True)
        return {one: offset for one, offset in found if offset is not None}

    def out_of_range(self, one: TopicPartition, error: ApiError) -> None:
        """The position is gone: go where `auto.offset.reset` says."""
        where = self.settings.auto_offset_reset
        if where == "none" or f"{where}_offset" not in error.details:
            error.details |= {"topic": one.topic, "partition": one.partition}
            raise error
        self.positions[one] = self._done[one] = int(error.details[f"{where}_offset"])

    # ---- commits

    def polled(self) -> None:
        """A poll begins: what the one before gave out counts as done."""
        self._done = dict(self.positions)

    async def commit_if_due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.settings.auto_commit and now_s - self._committed_s >= AUTO_COMMIT_INTERVAL_S:
            await self._commit_done()

    async def _commit_done(self) -> None:
        """Best effort, as automatic commits are: what fails is committed with the next one."""
        self._committed_s = asyncio.get_running_loop().time()
        fresh = self._not_committed(self._done)
        if fresh and not self.is_lost:
            codes = await self._ask_to_commit(fresh)
            self._committed |= {one: fresh[one].offset for one in fresh if codes.get(one) is ErrorCode.NONE}

    def _not_committed(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, CommittedOffset]:
        """Of topics that exist: the offset of one that was deleted would be the next one's of that name (S17)."""
        fresh = {one: at for one, at in positions.items() if self._committed.get(one) != at}
        return {one: CommittedOffset(at) for one, at in fresh.items() if self._exists(one)}

    def _exists(self, one: TopicPartition) -> bool:
        return self._context.node.image.topic(one.topic) is not None

    async def commit(self, offsets: Mapping[TopicPartition, CommittedOffset] | None) -> None:
        """All or none; None: all that was given out. Waits for a rebalance that is under way."""
        if not await self.settled(SETTLING_S):
            message = f"group {self.group_id!r} is rebalancing: try again; what it gives to others is theirs to commit"
            raise ApiError(503, RETRIABLE, message)
        if offsets is None:
            offsets = self._not_committed(self.positions)
        elif (gone := next((one for one in offsets if not self._exists(one)), None)) is not None:
            raise topic_not_found(gone.topic)
        if self._membership is not None:
            self.check_owned(offsets)
        if not offsets:
            return
        refused = next(filter(None, (await self._ask_to_commit(offsets)).values()), ErrorCode.NONE)
        if refused in (ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION):
            raise ApiError(503, RETRIABLE, f"group {self.group_id!r} has begun to rebalance: try again")
        if refused is ErrorCode.UNKNOWN_MEMBER_ID and self._membership is not None:
            message = f"group {self.group_id!r} has lost this instance, which joins anew: try again"
            raise ApiError(503, RETRIABLE, message)
        if refused is not ErrorCode.NONE:
            raise refused_by_coordinator(refused, self.group_id)
        said = {one: committed.offset for one, committed in offsets.items()}
        self._committed |= said
        self._done |= said  # else the next automatic commit would take it back

    async def _ask_to_commit(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> Codes:
        member, who = self._membership, (NO_MEMBER, None, NO_GENERATION)
        if member is not None:
            who = (member.member_id, None, member.generation_id)
        to_commit = OffsetsToCommit(self.group_id, *who, offsets)
        groups = self._context.node.groups
        answer = groups.ask(self.group_id, lambda core, call, now: core.commit(call, to_commit, now))
        codes: Codes | ErrorCode = await answer if isinstance(answer, asyncio.Future) else answer
        return dict.fromkeys(offsets, codes) if isinstance(codes, ErrorCode) else codes

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        """Of these, or of all that are assigned; what has none is left out."""
        try:
            offsets = self._context.node.groups.offsets_of(self.group_id)
        except RefusedError:
            raise instance_not_found(self.group_id, self.instance_id) from None
        return {one: found for one in partitions if (found := offsets.get(one)) is not None}
