"""`kraft shims`: Kafka's command names, for scripts and tutorials that were written for them.

Owns the folder in which a small script of each name lies. It is made when it is asked for, not packaged: only then it
is known which Python and which installation the scripts must start. Not on PATH by itself, where it would shadow a real
Kafka's. A shim translates options and hands over to a command of ours; what that prints, and how it ends, is the
shim's.
"""

import importlib
import os
import shlex
import sys
from pathlib import Path
from typing import Final

import click

from cli.failure import ExitCode, Failure, NothingCameFailure
from cli.invocation import CONTEXT_SETTINGS

SHIMS: Final = {
    "kafka-topics": "cli.shims_topics:kafka_topics",
    "kafka-console-producer": "cli.shims_console:kafka_console_producer",
    "kafka-console-consumer": "cli.shims_console:kafka_console_consumer",
    "kafka-consumer-groups": "cli.shims_groups:kafka_consumer_groups",
    "kafka-server-start": "cli.shims_server:kafka_server_start",
    "kafka-server-stop": "cli.shims_server:kafka_server_stop",
    "zookeeper-server-start": "cli.shims_server:zookeeper_server_start",
    "zookeeper-server-stop": "cli.shims_server:zookeeper_server_start",
}
_SCRIPT: Final = """\
#!/bin/sh
# Made by `kraft shims`, and again whenever that is run.
exec {python} -P -m kraft_bundle shims {name} "$@"
"""


@click.command(context_settings=CONTEXT_SETTINGS | {"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS...]")
def shims(*, name: str | None, arguments: tuple[str, ...]) -> None:
    """Print the folder that holds kafka-topics, kafka-console-producer and so on, each also as NAME.sh.

    \b
      export PATH="$(kraft shims):$PATH"
      kafka-topics --create --topic test --partitions 1 --replication-factor 1 --bootstrap-server localhost:9092
      kafka-console-producer --topic test --bootstrap-server localhost:9092
      kafka-console-consumer --topic test --from-beginning --bootstrap-server localhost:9092

    They take the options of Kafka's tools and do what was meant with kraft's own commands. With a NAME, that one
    is run.
    """  # noqa: D301 - click's mark for "keep these lines"
    if name is None:
        click.echo(make_folder())
        return
    known = name.removesuffix(".sh")
    if known not in SHIMS:
        raise Failure(f"no shim is called {name}: there are {', '.join(SHIMS)}", ExitCode.USAGE)
    run_shim(known, list(arguments))


def run_shim(name: str, arguments: list[str]) -> None:
    """Translate and hand over; every way of ending is that of the command behind it."""
    module, _, attribute = SHIMS[name].partition(":")
    shim: click.Command = getattr(importlib.import_module(module), attribute)
    with shim.make_context(name, arguments) as context:
        translated: list[str] | None = shim.invoke(context)
    if translated is None:
        return
    root: click.Group = importlib.import_module("cli.main").root
    with root.make_context("kraft", translated) as context:
        try:
            root.invoke(context)
        except NothingCameFailure as ended:  # for Kafka's console consumer the end of --timeout-ms is a good one
            click.echo(f"kraft: {ended.message}", err=True)


def make_folder() -> Path:
    """The folder, with every script in it as it must be now; nothing is written where all is as it must be."""
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SHIMS:
            for path in (folder / name, folder / f"{name}.sh"):
                _write_script(path, _SCRIPT.format(python=shlex.quote(sys.executable), name=name))
    except OSError as error:
        raise Failure(f"{folder} can't be made: {error.strerror}", ExitCode.DENIED) from None
    return folder


def _folder() -> Path:
    """Inside the virtual environment, with which it goes away; else in the user's own folder of data."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix, "share", "kraft", "shims")
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data, "kraft", "shims")


def _write_script(path: Path, text: str) -> None:
    """Whole or not at all: another shell may be running it."""
    if path.exists() and path.read_text(encoding="utf-8") == text and os.access(path, os.X_OK):
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(path)
