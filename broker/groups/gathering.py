"""How long a new group waits for its members: a little after each newcomer, never beyond the rebalance timeout.

Pure (`group.initial.rebalance.delay.ms`, KIP-134): members that are started together meet in one generation.
"""


class Gathering:
    """One wait; the caller keeps its deadline, first of `delay_ms`, then of what `more_ms` says."""

    __slots__ = ("_delay_ms", "_left_ms", "has_newcomer")

    def __init__(self, delay_ms: int, timeout_ms: int) -> None:
        self._delay_ms = delay_ms
        self._left_ms = timeout_ms - delay_ms
        self.has_newcomer = False

    def more_ms(self) -> int:
        """The deadline has come: how much longer to wait; 0: no longer."""
        if not self.has_newcomer:
            return 0
        more_ms = min(self._delay_ms, self._left_ms)
        self._left_ms -= more_ms
        self.has_newcomer = False
        return more_ms
