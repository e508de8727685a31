"""Groups that import a command's module only when that command runs, so that `kraft --help` is instant."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from cli.invocation import CONTEXT_SETTINGS, shared_options


class LazyGroup(click.Group):
    """`lazy` maps a command's name to (module:attribute, the line for the list); nothing is imported to show a list."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **keywords: Any) -> None:
        keywords["context_settings"] = CONTEXT_SETTINGS | keywords.get("context_settings", {})
        super().__init__(*arguments, **keywords)
        self.lazy = lazy
        self.params.extend(shared_options())

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of the table: it tells a story, the alphabet does not."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command's module now."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command), f"{module}:{attribute} is a click command"
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and for a command that is not there the one that was probably meant."""
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only a typo pays for it

            close = difflib.get_close_matches(args[0], self.lazy, n=1, cutoff=0.5)
            meant = f" Did you mean {close[0]}?" if close else f" There are {', '.join(self.lazy)}."
            ctx.fail(f"No such command: {args[0]}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The list, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])
