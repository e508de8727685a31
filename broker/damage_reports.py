"""Tells the controller which replicas of this broker are damaged (S18).

Owns who was told of what. Invariants: whoever is damaged stops fetching before it says so, and begins anew only when
the controller has dealt with that: nothing that was fetched or decided before may bring it back as the one that it was
(S3). A partition's only replica stays what it is, and serves what is intact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.event_log import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from broker.heartbeats import Heartbeats
    from broker.replication.fetchers import Fetchers
    from broker.replication.replica import Replica
    from metadata.image import Image


class DamageReports:
    """Used on the node's loop."""

    def __init__(
        self, image: Callable[[], Image], fetchers: Fetchers, heartbeats: Callable[[], Heartbeats | None]
    ) -> None:
        self._image = image
        self._fetchers = fetchers
        self._heartbeats = heartbeats
        self._told: dict[tuple[UUID, int], int] = {}
        self._log = logger()

    def tell(self, replica: Replica) -> bool:
        """This replica is damaged. Whether the controller knows it by now, and counts on it no more."""
        heartbeats, state = self._heartbeats(), self._image().partition(*replica.key)
        if heartbeats is None or state is None or len(state.replicas) == 1:
            return False
        generation = replica.log.generation  # another one once it has begun anew
        if self._told.get(replica.key) != generation:
            self._told[replica.key] = generation
            self._log.error("partition damaged: leaving it to its other replicas", log=replica.name)
            self._fetchers.unfollow(replica.key)
            heartbeats.lost("DAMAGED", [replica.key])
        return heartbeats.has_reported("DAMAGED", replica.key)
