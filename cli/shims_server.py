"""`kafka-server-start`, `kafka-server-stop` and `zookeeper-server-start` as shims.

Owns the notes of which processes `kafka-server-start` became or started, in the user's state folder. Invariant:
`kafka-server-stop` signals only what such a note names, and only while that process is the one that wrote it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cli.failure import ExitCode, Failure
from cli.invocation import CONTEXT_SETTINGS
from cli.node_process import process_identity

STOP_S: Final = 40.0
"""Longer than a node takes to hand over what it leads and to sync."""
READY_S: Final = 30.0
POLL_INTERVAL_S: Final = 0.02
_READY: Final = b'"event": "ready"'
"""Of the node's log, which is JSON where no terminal watches."""


@click.command(context_settings=CONTEXT_SETTINGS)
@click.argument("config_file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option(
    "-daemon", "--daemon", "is_daemon", is_flag=True, help="In the background; what it prints goes to a file."
)
@click.option("--override", "settings", metavar="KEY=VALUE", multiple=True, help="Instead of what FILE says.")
def kafka_server_start(*, config_file: str, settings: tuple[str, ...], is_daemon: bool) -> list[str] | None:
    """Run one node with a server.properties, in the foreground: kraft node -c FILE.

    Its data directory (log.dirs) is prepared where it is empty, as a Kafka with ZooKeeper did.
    """
    path = Path(config_file).absolute()
    if not path.exists():
        raise Failure(
            f"{config_file}: no such configuration file; `kraft up` starts a node without one", ExitCode.NOT_FOUND
        )
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    if is_daemon:
        _start_detached(path, overrides)
        return None
    _note(os.getpid())  # the node keeps this process: it takes its place
    return _node_arguments(path, overrides)


@click.command(context_settings=CONTEXT_SETTINGS)
def kafka_server_stop() -> None:
    """Stop what kafka-server-start started, and wait until it is gone; nodes of kraft up: kraft down."""
    asked = []
    for note in sorted(_notes_folder().glob("*.pid")):
        if (pid := _noted_pid(note)) is None:
            note.unlink(missing_ok=True)
            continue
        os.kill(pid, signal.SIGTERM)
        asked.append(note)
    if not asked:
        raise Failure("no server to stop: none that kafka-server-start started is running")
    deadline = time.monotonic() + STOP_S
    while any(_noted_pid(note) is not None for note in asked):
        if time.monotonic() > deadline:
            raise Failure("it did not stop in time", ExitCode.UNAVAILABLE)
        time.sleep(POLL_INTERVAL_S)
    for note in asked:
        note.unlink(missing_ok=True)


@click.command(context_settings=CONTEXT_SETTINGS | {"ignore_unknown_options": True})
@click.argument("ignored", metavar="[FILE]", nargs=-1, type=click.UNPROCESSED)
def zookeeper_server_start(*, ignored: Sequence[str]) -> None:  # noqa: ARG001 - whatever it was, it is not needed
    """Say that no ZooKeeper is needed, to whoever would start or stop one."""
    click.echo("kraft: ZooKeeper is not needed, the nodes agree among themselves; nothing was done.", err=True)


def _node_arguments(config_file: Path, overrides: Sequence[str]) -> list[str]:
    return ["node", "-c", str(config_file), "--format", *overrides]


def _start_detached(config_file: Path, overrides: Sequence[str]) -> None:
    """As Kafka's own script, but back only when it takes requests, or with the reason why it does not."""
    folder = _notes_folder()
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / f"{config_file.stem}.out"
    with log_file.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [sys.executable, "-P", "-m", "kraft_bundle", *_node_arguments(config_file, overrides)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _note(process.pid)
    deadline = time.monotonic() + READY_S
    while _READY not in (told := log_file.read_bytes()[log_start:]):
        if process.poll() is not None:
            last = told.decode(errors="replace").strip().rpartition("\n")[2]
            raise Failure(f"the server ended at once: {last or 'without a word'}")
        if time.monotonic() > deadline:
            break  # it says so little (log.level) or takes so long: whoever asks it next will see
        time.sleep(POLL_INTERVAL_S)
    click.echo(f"kraft: started, pid {process.pid}; its log is {log_file}", err=True)


def _note(pid: int) -> None:
    """Write down which process this is: its start time tells it from a later one with the same number."""
    identity = process_identity(pid)
    folder = _notes_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{pid}.pid").write_text(f"{pid} {identity.started if identity else ''}\n", encoding="ascii")


def _noted_pid(note: Path) -> int | None:
    """The process of a note while it runs."""
    try:
        pid_text, _, started = note.read_text(encoding="ascii").strip().partition(" ")
        identity = process_identity(int(pid_text))
    except (OSError, ValueError):
        return None
    return int(pid_text) if identity is not None and identity.started == started else None


def _notes_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "kraft", "servers")
