"""Producer ids for idempotent producers: each given once in the life of a cluster (KIP-98, KIP-360, KIP-730).

Owns this broker's block of ids. Blocks of a thousand come from the quorum, which gives none of them twice, so what is
left of one when this process ends is never given to anybody: ids stay unique across restarts and changes of the
controller (S13 counts on it). All who wait share one request; a new block is asked for before the old one is empty.
Refuses (COORDINATOR_LOAD_IN_PROGRESS, which every client tries again) while no block can be had.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from broker.errors import OutcomeUnknownError
from metadata.answers import AdminAnswer, ProducerIdsAllocated
from metadata.requests import AdminRequest, AllocateProducerIdsRequest
from wire.errors import ErrorCode, RefusedError

PREFETCH_AT: Final = 100
"""So few ids left: ask for the next block now, so that nobody waits for it."""
EPOCH_MAX: Final = 2**15 - 1
TIMEOUT_S: Final = 10.0


class Admin(Protocol):
    """`Node.admin`."""

    def __call__(self, request: AdminRequest, *, timeout_s: float) -> Awaitable[AdminAnswer]: ...


class Producer(NamedTuple):
    """As whom a producer writes."""

    producer_id: int
    epoch: int


class ProducerIds:
    """Used on the node's loop."""

    def __init__(
        self,
        admin: Admin,
        *,
        broker_id: int,
        broker_epoch: Callable[[], int | None],
        next_producer_id: Callable[[], int],
    ) -> None:
        """`next_producer_id`: no id from there on was given to anybody, as far as this node knows."""
        self._admin = admin
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._next_producer_id = next_producer_id
        self._blocks: list[range] = []
        self._asking: asyncio.Task[None] | None = None

    async def allocate(self, *, timeout_s: float = TIMEOUT_S) -> Producer:
        """A new producer, at epoch 0. RefusedError(COORDINATOR_LOAD_IN_PROGRESS): none can be had now, try again."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._blocks:
                    await asyncio.shield(self._ask())
        except TimeoutError:
            raise _later(f"none came within {timeout_s:g} s") from None
        producer_id = self._take()
        if sum(map(len, self._blocks)) < PREFETCH_AT:
            self._ask()
        return Producer(producer_id, 0)

    async def renew(self, producer_id: int, epoch: int, *, timeout_s: float = TIMEOUT_S) -> Producer:
        """The same producer in its next epoch, whose sequences begin with 0: what the old one still sends is refused.

        A new producer where the epochs are used up, where the id is not known to this node, and for -1 and -1 (none).
        RefusedError: INVALID_REQUEST for one without the other, and as `allocate`.
        """
        if (producer_id < 0) != (epoch < 0) or min(producer_id, epoch) < -1:
            raise RefusedError(
                ErrorCode.INVALID_REQUEST,
                f"producer_id {producer_id} and producer_epoch {epoch} belong together: give both, or -1 for both",
            )
        if producer_id < 0 or epoch >= EPOCH_MAX - 1 or producer_id >= self._next_producer_id():
            return await self.allocate(timeout_s=timeout_s)
        return Producer(producer_id, epoch + 1)

    async def close(self) -> None:
        """The node stops."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, RefusedError):
                await self._asking

    def _take(self) -> int:
        block = self._blocks[0]
        if len(block) > 1:
            self._blocks[0] = block[1:]
        else:
            del self._blocks[0]
        return block[0]

    def _ask(self) -> asyncio.Task[None]:
        """The request under way, begun now where there is none."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._fetch_block(), name="producer ids")
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; a block that was asked for in advance is asked for again

    async def _fetch_block(self) -> None:
        """A lost answer loses a block of 2^63 / 1000."""
        broker_epoch = self._broker_epoch()
        if broker_epoch is None:
            raise _later(f"node {self._broker_id} is starting")
        asked = AllocateProducerIdsRequest(broker_id=self._broker_id, broker_epoch=broker_epoch)
        try:
            answer = await self._admin(asked, timeout_s=TIMEOUT_S)
        except (OutcomeUnknownError, RefusedError) as error:
            raise _later(error.message) from error
        assert isinstance(answer, ProducerIdsAllocated), answer
        self._blocks.append(range(answer.first_producer_id, answer.first_producer_id + answer.count))


def _later(reason: str) -> RefusedError:
    return RefusedError(
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, f"no producer id can be given now ({reason}): try again soon"
    )
