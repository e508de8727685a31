"""Timestamp -> offset in a segment, Kafka's `.timeindex`: 12-byte entries of timestamp and relative offset.

An entry (t, o) says: every record before offset o has a timestamp below or equal to t, and the record batch at o
reached t. Timestamps in the index only grow, whatever the producers' clocks did (S20); equal ones are not repeated.
"""

import struct

from logstore.sparse_index import SparseIndex


class TimeIndex(SparseIndex):
    """Keys are milliseconds, values offsets relative to the segment's base."""

    ENTRY = struct.Struct(">qi")
    SUFFIX = ".timeindex"
    __slots__ = ()

    def append_if_later(self, timestamp_ms: int, relative_offset: int) -> None:
        last = self.last()
        if timestamp_ms >= 0 and (last is None or timestamp_ms > last[0]):
            self.append(timestamp_ms, relative_offset)

    def truncate_to_offset(self, relative_offset: int) -> None:
        """Forget the entries at or beyond this offset."""
        count = len(self)
        while count and self._entries(count - 1, 1)[0][1] >= relative_offset:
            count -= 1
        if count < len(self):
            self.keep(count)
