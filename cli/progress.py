"""One line on stderr that tells a waiting person what is going on; silent where nobody watches."""

import shutil
import sys
import time
from types import TracebackType
from typing import Final, Self

from cli.invocation import Invocation

FIRST_AFTER_S: Final = 0.5  # what is done sooner needs no progress
INTERVAL_S: Final = 0.1
_CLEAR: Final = "\r\x1b[K"


class StatusLine:
    """Shows the newest text in place, at most ten times a second, and wipes it when the work is done."""

    def __init__(self, invocation: Invocation) -> None:
        self.enabled = sys.stderr.isatty() and not invocation.quiet
        self._next_s = time.monotonic() + FIRST_AFTER_S
        self._is_shown = False

    @property
    def is_due(self) -> bool:
        """A new text would be shown now; ask before making an expensive one."""
        return self.enabled and time.monotonic() >= self._next_s

    def show(self, text: str) -> None:
        """Replace the line."""
        if self.is_due:
            columns = shutil.get_terminal_size().columns
            sys.stderr.write(f"{_CLEAR}{text[: columns - 1]}")  # a line that wraps could not be wiped
            sys.stderr.flush()
            self._is_shown = True
            self._next_s = time.monotonic() + INTERVAL_S

    def clear(self) -> None:
        """Wipe the line, before other output and at the end."""
        if self._is_shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()
