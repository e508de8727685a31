"""Which partitions this broker follows, and the one fetcher that it runs for each leader broker.

Owns the fetchers and their tasks. Refuses to follow twice: a partition is followed of one leader in one leader epoch;
news of the same epoch changes its throttling only. A leader is found by its registration in the image
(`replication_listener`), and is asked again at once when that changes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from broker.replication.fetch_session import Key
from broker.replication.fetcher import FetchSettings, Followed, LeaderFetcher
from broker.replication.follower import PartitionFollower
from broker.replication.replica import Replica
from metadata.broker_settings import throttle_bytes_per_s
from metadata.delta import Delta
from metadata.image import Broker, Endpoint, Image, Partition

RunTask = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Fetchers:
    """One `LeaderFetcher` for each broker that leads what this one follows."""

    def __init__(self, settings: FetchSettings, run: RunTask) -> None:
        """`run` makes a task of a coroutine that should never end by itself."""
        self._settings = settings
        self._run = run
        self._followed: dict[Key, Followed] = {}
        self._fetchers: dict[int, LeaderFetcher] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._removed: set[int] = set()

    def follow(self, replica: Replica, state: Partition, leader: Broker) -> None:
        """Copy this partition of `leader`, in the leader epoch of `state`."""
        is_throttled = (
            self._settings.broker_id in state.adding_replicas and self._settings.broker_id not in state.in_sync_replicas
        )
        known = self._followed.get(replica.key)
        if known is not None and known.replica is replica:
            core = known.core
            if (core.leader_epoch, core.leader_id) == (state.leader_epoch, leader.broker_id):
                if known.is_throttled != is_throttled:
                    known.is_throttled = is_throttled
                    self._fetchers[core.leader_id].ask_again(replica.key)
                return
        self.unfollow(replica.key)
        core = PartitionFollower(leader_id=leader.broker_id, leader_epoch=state.leader_epoch)
        followed = self._followed[replica.key] = Followed(replica, core, is_throttled)
        self._fetcher(leader).follow(followed)

    def unfollow(self, key: Key) -> None:
        """Copy this partition no more; no effect where it is not followed."""
        if (known := self._followed.pop(key, None)) is not None:
            leader_id = known.core.leader_id
            self._fetchers[leader_id].unfollow(known)
            self._end_if_useless(leader_id)

    def leader_of(self, key: Key) -> int | None:
        """The broker of which this partition is copied now."""
        known = self._followed.get(key)
        return None if known is None else known.core.leader_id

    def see(self, image: Image, delta: Delta) -> None:
        """A new image: leaders may have moved to another place, the throttle may have changed."""
        now_s = asyncio.get_running_loop().time()
        if self._settings.throttle.limit(throttle_bytes_per_s(image, self._settings.broker_id), now_s=now_s):
            for followed in self._followed.values():
                if followed.is_throttled:
                    self._fetchers[followed.core.leader_id].ask_again(followed.key)
        for broker_id in delta.changed_brokers & self._fetchers.keys():
            broker = image.brokers.get(broker_id)
            if broker is not None:
                self._removed.discard(broker_id)
                self._fetchers[broker_id].found_at(replication_endpoint(broker))
            else:
                self._removed.add(broker_id)
                self._end_if_useless(broker_id)

    def _end_if_useless(self, broker_id: int) -> None:
        """A broker that is in no image any more leads nothing; what is followed of it still finds its next leader."""
        if broker_id in self._removed and self._fetchers[broker_id].is_idle:
            self._removed.discard(broker_id)
            del self._fetchers[broker_id]
            self._tasks.pop(broker_id).cancel()

    def _fetcher(self, leader: Broker) -> LeaderFetcher:
        fetcher = self._fetchers.get(leader.broker_id)
        if fetcher is None:
            fetcher = self._fetchers[leader.broker_id] = LeaderFetcher(leader.broker_id, self._settings)
            fetcher.found_at(replication_endpoint(leader))
            self._tasks[leader.broker_id] = self._run(fetcher.run(), f"fetcher of {leader.broker_id}")
        return fetcher


def replication_endpoint(broker: Broker) -> Endpoint | None:
    """Where followers of what `broker` leads come to; None where it has no listener for them."""
    return None if broker.replication_listener is None else broker.listeners.get(broker.replication_listener)
