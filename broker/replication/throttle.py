"""How fast replicas that are being added may be copied, so that clients keep their share (pure).

Owns the bytes that may still be fetched. Refuses to save up more than a second's worth: no burst after a pause. What
one fetch brings may exceed what was left; the debt is waited off. Time is an argument.
"""

from typing import Final

BURST_S: Final = 1.0
UNLIMITED_BYTES: Final = 0x7FFFFFFF


class ReplicationThrottle:
    """A token bucket; without a rate everything is allowed."""

    def __init__(self) -> None:
        self._bytes_per_s: int | None = None
        self._left_bytes = 0.0
        self._filled_s = 0.0

    def limit(self, bytes_per_s: int | None, *, now_s: float) -> bool:
        """Set the rate, None lifts the limit; True where that is another one."""
        if bytes_per_s == self._bytes_per_s:
            return False
        self._bytes_per_s, self._left_bytes, self._filled_s = bytes_per_s, 0.0, now_s
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be fetched again; 0 where it may be now."""
        if self._bytes_per_s is None:
            return 0.0
        rate = max(self._bytes_per_s, 1)
        self._left_bytes = min(self._left_bytes + (now_s - self._filled_s) * rate, BURST_S * rate)
        self._filled_s = now_s
        return max(0.0, -self._left_bytes / rate)

    @property
    def is_limited(self) -> bool:
        return self._bytes_per_s is not None

    def bite_bytes(self, partitions: int) -> int:
        """What one of so many partitions should bring in one fetch, so that together they stay near a second's worth:
        else a copy at a small rate would stand still for long, and then jump.
        """
        if self._bytes_per_s is None:
            return UNLIMITED_BYTES
        return max(int(self._bytes_per_s * BURST_S) // max(partitions, 1), 1)

    def spent(self, size_bytes: int) -> None:
        """So much was fetched."""
        if self._bytes_per_s is not None:
            self._left_bytes -= size_bytes
