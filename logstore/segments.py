"""The segments of one log in order, found by offset.

Invariants: base offsets strictly increase; each segment ends at or before the next one's base; the last one is active.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from logstore.segment import Segment


class Segments:
    """An ordered list that knows its total size."""

    __slots__ = ("_segments",)

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __getitem__(self, index: int) -> Segment:
        return self._segments[index]

    @property
    def active(self) -> Segment | None:
        return self._segments[-1] if self._segments else None

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    def add(self, segment: Segment) -> None:
        assert not self._segments or segment.base_offset >= self._segments[-1].next_offset
        self._segments.append(segment)

    def from_offset(self, offset: int) -> Iterator[Segment]:
        """The segment that may hold `offset`, and those after it."""
        segments = self._segments
        if segments and offset >= segments[-1].base_offset:
            yield segments[-1]
            return
        index = max(bisect_right(segments, offset, key=lambda segment: segment.base_offset) - 1, 0)
        yield from segments[index:]

    def holds(self, run: Sequence[Segment]) -> bool:
        """These very segments lie here, one after the other."""
        index = bisect_left(self._segments, run[0].base_offset, key=lambda segment: segment.base_offset)
        found = self._segments[index : index + len(run)]
        return len(found) == len(run) and all(one is other for one, other in zip(found, run, strict=True))

    def replace(self, run: Sequence[Segment], segment: Segment) -> None:
        """`segment` stands for the offsets of all of `run`, which lie here one after the other."""
        assert self.holds(run)
        assert segment.base_offset == run[0].base_offset
        assert segment.next_offset == run[-1].next_offset
        index = self._segments.index(run[0])
        self._segments[index : index + len(run)] = [segment]

    def remove_first(self, count: int) -> list[Segment]:
        removed, self._segments[:count] = self._segments[:count], []
        return removed

    def remove_from(self, offset: int) -> list[Segment]:
        """Take out the segments that begin at or beyond `offset`."""
        index = len(self._segments)
        while index and self._segments[index - 1].base_offset >= offset:
            index -= 1
        removed, self._segments[index:] = self._segments[index:], []
        return removed
