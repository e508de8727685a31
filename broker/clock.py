"""Time as a port: wall time for what is stored, monotonic time for every deadline (S20)."""

import time
from typing import Protocol


class Clock(Protocol):
    def wall_ms(self) -> int:
        """Milliseconds since the epoch, as records and retention count them; may jump."""

    def monotonic_ms(self) -> float:
        """Milliseconds that only grow; their zero means nothing."""


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return time.monotonic() * 1000.0
