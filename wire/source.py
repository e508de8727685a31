"""Writing the source of a function that encodes or decodes one message in one version, and compiling it.

Owns the lines, the names of locals and the objects that the source refers to. Nothing of what a peer sends ever becomes
source: the generators know declarations only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, cast


class Source:
    def __init__(self) -> None:
        self.names: dict[str, object] = {}
        self._bound: dict[int, str] = {}
        self._lines: list[str] = []
        self._indent = 1
        self._numbers = count()

    def line(self, text: str) -> None:
        self._lines.append("    " * self._indent + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head + ":")
        self._indent += 1
        yield
        self._indent -= 1

    def local(self, stem: str) -> str:
        """A name that nothing else in this function has."""
        return f"{stem}_{next(self._numbers)}"

    def bind(self, stem: str, value: object) -> str:
        """A name by which the source refers to `value`; the same one for the same object."""
        name = self._bound.get(id(value))
        if name is None:
            name = self._bound[id(value)] = f"{stem}_{next(self._numbers)}"
            self.names[name] = value
        return name

    def compiled(self, head: str, *, title: str) -> Callable[..., Any]:
        text = "\n".join([f"def {head}:", *self._lines])
        name = head.partition("(")[0]
        exec(compile(text, f"<{title}>", "exec"), self.names)  # noqa: S102 - as dataclasses do: from declarations only
        return cast("Callable[..., Any]", self.names[name])
