"""Changes of the in-sync replicas, from the leaders on this broker to the controller and back (KIP-497).

Owns when a leader is asked what it wants: at once when a follower has caught up, and every half of
`replica.lag.time.max.ms` because silence is an event too. One request is in flight, with all changes that are wanted by
then. Refuses to guess what became of one: a leader reckons with the larger set (the *maximal* in-sync replicas, S2)
until the image, or a refusal, tells.
Invariant S9: what is asked is a compare-and-set on the epochs that the leader saw; the controller and the metadata log
check them.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol
from uuid import UUID

from broker.errors import OutcomeUnknownError
from broker.event_log import logger
from metadata.answers import AdminAnswer, PartitionsChanged
from metadata.requests import AdminRequest, AlterPartitionRequest, InSyncReplicasChange
from wire.errors import ErrorCode, RefusedError

CHANGES_PER_REQUEST: Final = 1_000
REQUEST_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.05
"""After a refusal or a doubt: what caused it needs a moment to pass."""

Key = tuple[UUID, int]


class LeadingReplica(Protocol):
    """What a leader's in-sync replicas are asked through (`Replica`)."""

    @property
    def key(self) -> Key: ...

    @property
    def name(self) -> str: ...

    @property
    def is_leader(self) -> bool: ...

    def wanted_in_sync_change(self) -> InSyncReplicasChange | None:
        """The change that is due now; from here on it is pending."""

    def in_sync_change_refused(self, change: InSyncReplicasChange, code: ErrorCode) -> None: ...

    def in_sync_change_in_doubt(self, change: InSyncReplicasChange) -> None: ...


class AskController(Protocol):
    async def __call__(self, request: AdminRequest, *, timeout_s: float) -> AdminAnswer:
        """Raises RefusedError (nothing changed) or OutcomeUnknownError; returns when the answer is applied here."""


class InSyncReplicasChanges:
    """Brings what leaders want to the controller, a batch at a time."""

    def __init__(
        self,
        ask: AskController,
        *,
        broker_id: int,
        broker_epoch: Callable[[], int | None],
        led: Callable[[], Iterable[LeadingReplica]],
        check_interval_s: float,
    ) -> None:
        self._ask = ask
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._led = led
        self._check_interval_s = check_interval_s
        self._due: dict[Key, LeadingReplica] = {}
        self._soon = asyncio.Event()
        self._log = logger()

    def consider(self, replica: LeadingReplica) -> None:
        """This leader may want a change: ask it soon."""
        self._due[replica.key] = replica
        self._soon.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        check_s = loop.time() + self._check_interval_s
        while True:
            try:
                async with asyncio.timeout_at(check_s):
                    await self._soon.wait()
            except TimeoutError:
                check_s = loop.time() + self._check_interval_s
                self._due.update((replica.key, replica) for replica in self._led())
            if await self._carry_out():
                await asyncio.sleep(PAUSE_S)

    async def _carry_out(self) -> bool:
        """Ask for what is due; True where something must be asked again, after a pause."""
        due, self._due = self._due, {}
        self._soon.clear()
        broker_epoch = self._broker_epoch()
        if broker_epoch is None:
            return False
        wanted: dict[Key, tuple[LeadingReplica, InSyncReplicasChange]] = {}
        for key, replica in due.items():
            if len(wanted) == CHANGES_PER_REQUEST:
                self._due[key] = replica
                self._soon.set()
            elif replica.is_leader and (change := replica.wanted_in_sync_change()) is not None:
                wanted[key] = replica, change
        return bool(wanted) and await self._request(wanted, broker_epoch)

    async def _request(self, wanted: dict[Key, tuple[LeadingReplica, InSyncReplicasChange]], broker_epoch: int) -> bool:
        request = AlterPartitionRequest(
            broker_id=self._broker_id,
            broker_epoch=broker_epoch,
            changes=tuple(change for _, change in wanted.values()),
        )
        try:
            answer = await self._ask(request, timeout_s=REQUEST_TIMEOUT_S)
        except RefusedError as refused:
            for replica, change in wanted.values():
                self._refused(replica, change, refused.code, refused.message)
            return True
        except OutcomeUnknownError as unknown:
            self._log.info("in-sync replicas in doubt", partitions=len(wanted), reason=unknown.message)
            for replica, change in wanted.values():
                replica.in_sync_change_in_doubt(change)
                self.consider(replica)
            return True
        assert isinstance(answer, PartitionsChanged), answer
        refusals = {(one.topic_id, one.partition): one for one in answer.refusals}
        for key, (replica, change) in wanted.items():
            if (refusal := refusals.get(key)) is not None:
                self._refused(replica, change, refusal.code, refusal.message)
            else:
                self._log.info("in-sync replicas changed", replica=replica.name, in_sync_replicas=_members(change))
        return bool(refusals)

    def _refused(self, replica: LeadingReplica, change: InSyncReplicasChange, code: ErrorCode, reason: str) -> None:
        self._log.info(
            "in-sync replicas not changed", replica=replica.name, in_sync_replicas=_members(change), reason=reason
        )
        replica.in_sync_change_refused(change, code)
        self.consider(replica)


def _members(change: InSyncReplicasChange) -> list[int]:
    return [broker_id for broker_id, _ in change.in_sync_replicas]
