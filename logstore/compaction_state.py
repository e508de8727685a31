"""What one log remembers of its own compaction, between one cleaning and the next.

Owns how far the log is clean, whether offsets may be missing between its batches, and which recovery point is on disk
for certain: a cleaning must not touch the segment to which a restart would go back. The first two are checkpointed
(`cleaner-offset-checkpoint`, Kafka's name): a line there says that the log has or had `cleanup.policy=compact`.
Invariants: below `clean_end_offset` each key has at most one record; that offset is on disk only after the segments
that make it true are; holes that were allowed once are allowed for ever, whatever the policy says later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logstore.checkpoints import RecoveryPoint

NO_OFFSET = -1


@dataclass(slots=True)
class CompactionState:
    """Belongs to one `PartitionLog`; its owner's loop only."""

    may_have_holes: bool
    """Offsets may be missing between batches: the topic is or was compacted, here or at the leader."""
    written_point: RecoveryPoint
    """The recovery point that is on disk: recovery may begin there, or later."""
    clean_end_offset: int = 0
    holes_are_written: bool = False
    """The checkpoint on disk says that there may be holes."""
    has_unsynced_names: bool = False
    """Cleaned segments took their places, and the folder was not synced since."""
    tombstones_due_ms: int | None = None
    """When the first tombstone of the clean part may go; None: not known."""
    stopped_by: str | None = None
    """Why this log is not cleaned any more, until a restart."""
    refused_hole: tuple[int, int] = (NO_OFFSET, NO_OFFSET)
    """What a leader sent where another offset was due: (due, sent)."""
