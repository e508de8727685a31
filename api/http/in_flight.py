"""How many bytes of other people's requests and answers this node holds at one time.

Refuses (429, Retry-After) what would pass the bound, before the bytes are read.
Invariant: whatever was taken is given back when its request ends, however it ends.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from api.http.errors import THROTTLED, ApiError


class InFlightBytes:
    """The node's account."""

    __slots__ = ("bytes_max", "held_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0


class Held:
    """One request's share of the account."""

    __slots__ = ("_account", "held_bytes")

    def __init__(self, account: InFlightBytes) -> None:
        self._account = account
        self.held_bytes = 0

    def take(self, count: int) -> None:
        account = self._account
        if account.held_bytes + count > account.bytes_max:
            raise ApiError(
                429,
                THROTTLED,
                f"this node holds {account.held_bytes} bytes of requests under way, its bound is {account.bytes_max}: "
                "try again in a moment",
            )
        account.held_bytes += count
        self.held_bytes += count

    def hold(self, total: int) -> None:
        """Let the share be `total` from now on; only growth can be refused."""
        if total > self.held_bytes:
            self.take(total - self.held_bytes)
        else:
            self._account.held_bytes -= self.held_bytes - total
            self.held_bytes = total

    def give_back(self) -> None:
        self._account.held_bytes -= self.held_bytes
        self.held_bytes = 0
        assert self._account.held_bytes >= 0, self._account.held_bytes


_current: Final[ContextVar[Held]] = ContextVar("held")


def begin_holding(account: InFlightBytes) -> Held:
    """A share for the request that this task answers."""
    held = Held(account)
    _current.set(held)
    return held


def held_by_request() -> Held:
    """The share of the request that is being answered."""
    return _current.get()
