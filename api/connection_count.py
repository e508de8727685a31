"""How many connections there are, in all and by address. Refuses beyond either cap; then nothing is counted.

Invariant: whoever was added is removed once, when its connection ends.
"""


class ConnectionCount:
    """Open connections, in all and by address."""

    def __init__(self, *, connections_max: int, per_address_max: int) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        self._by_address: dict[str, int] = {}
        self.total = 0

    def add(self, address: str) -> bool:
        """False where a cap is reached; then nothing is counted."""
        here = self._by_address.get(address, 0)
        if here >= self._per_address_max or self.total >= self._connections_max:
            return False
        self._by_address[address] = here + 1
        self.total += 1
        return True

    def remove(self, address: str) -> None:
        self.total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
