"""What every command is told: where the cluster is, how to print, how long to wait, whether to ask.

Owns the options that all commands share; they may stand before the command or after it, the later one wins.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click

from cli.failure import Failure

FORMATS: Final = ("text", "wide", "json", "ndjson")
CONTEXT_SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
DEFAULT_DATA_DIRECTORY: Final = "kraft-data"


@dataclass(slots=True)
class Invocation:
    """One run of the command line."""

    bootstrap_servers: str | None = None
    format: str = "text"
    timeout_s: float | None = None
    quiet: bool = False
    assume_yes: bool = False

    @property
    def is_machine_readable(self) -> bool:
        """A program reads stdout: nothing but data may stand there."""
        return self.format in ("json", "ndjson")

    def notice(self, text: str) -> None:
        """Tell the person something that is not data."""
        if not self.quiet:
            click.echo(text, err=True)

    def confirm(self, question: str) -> None:
        """Ask before something that can't be undone; without a terminal nothing is assumed."""
        if self.assume_yes:
            return
        if sys.stdin is None or not sys.stdin.isatty():
            raise Failure(f"{question} Nobody is there to answer: say -y to mean yes")
        if not click.confirm(question, err=True):
            raise Failure("nothing was done")


def current() -> Invocation:
    """The invocation of the command that runs."""
    found = click.get_current_context().find_root().obj
    assert isinstance(found, Invocation), "the root group makes it"
    return found


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    root = context.find_root()
    if root.obj is None:
        root.obj = Invocation()
    if context.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.DEFAULT:
        setattr(root.obj, str(parameter.name), value)


def seconds(text: str) -> float:
    """A time above none."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise click.BadParameter(f"{text} is not a number of seconds above 0.")
    return number


def shared_options() -> list[click.Option]:
    """The options of every command, fresh objects for each."""
    return [
        click.Option(
            ["-b", "--bootstrap-server", "bootstrap_servers"],
            metavar="SERVERS",
            envvar="KRAFT_BOOTSTRAP_SERVER",
            help="HTTP listeners as host[:port],... to try in this order.  [default: those of ./kraft-data, "
            "else 127.0.0.1:8082]",
            expose_value=False,
            callback=_store,
        ),
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            default="text",
            help="How to print data.  [default: text]",
            expose_value=False,
            callback=_store,
        ),
        click.Option(
            ["--timeout", "timeout_s"],
            type=seconds,
            metavar="SECONDS",
            help="Give up after this long.",
            expose_value=False,
            callback=_store,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            help="No notices on stderr; lists print names only.",
            expose_value=False,
            callback=_store,
        ),
        click.Option(
            ["-y", "--yes", "assume_yes"],
            is_flag=True,
            help="Answer yes to every question.",
            expose_value=False,
            callback=_store,
        ),
    ]


class KraftCommand(click.Command):
    """A command that also takes the shared options; in its help they stand last, under a heading of their own."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        keywords["context_settings"] = CONTEXT_SETTINGS | keywords.get("context_settings", {})
        super().__init__(*arguments, **keywords)
        self.shared = shared_options()
        self.params.extend(self.shared)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own options first, then those that every command has."""
        for title, belongs in (("Options", False), ("Options of every command", True)):
            rows = [
                record
                for parameter in self.get_params(ctx)
                if (parameter in self.shared) is belongs and (record := parameter.get_help_record(ctx)) is not None
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def command(name: str | None = None, **keywords: Any) -> Callable[[Callable[..., Any]], KraftCommand]:
    """`@command()` for every command of ours."""
    return click.command(name, cls=KraftCommand, **keywords)


def wants_colour(stream: Any) -> bool:
    """A terminal, and nobody said NO_COLOR (no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


data_directory_option = click.option(
    "--data-dir",
    "data_directory",
    default=DEFAULT_DATA_DIRECTORY,
    envvar="KRAFT_DATA_DIR",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Where the cluster's data and logs are.  [default: ./kraft-data]",
)
