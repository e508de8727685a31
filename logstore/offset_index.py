"""Offset -> position in a segment, Kafka's `.index`: 8-byte entries of relative offset and byte position.

An entry names the base offset of a batch and where it begins; one is added at most every `index_interval_bytes`.
"""

import struct

from logstore.sparse_index import SparseIndex


class OffsetIndex(SparseIndex):
    """Keys are offsets relative to the segment's base, values byte positions; both signed 32-bit as in Kafka."""

    ENTRY = struct.Struct(">ii")
    SUFFIX = ".index"
    __slots__ = ()

    def truncate_to_position(self, position: int) -> None:
        """Forget the entries at or beyond `position`."""
        count = len(self)
        while count and self._entries(count - 1, 1)[0][1] >= position:
            count -= 1
        if count < len(self):
            self.keep(count)
