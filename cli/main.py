"""The root of the command line: which commands there are, and how each way of ending becomes an exit code.

Invariant: nothing but click is imported here, so that `kraft --help` feels instant.
"""

import os
import sys

import click

from cli.failure import ExitCode, Failure
from cli.lazy_group import LazyGroup

COMMANDS = {
    "up": ("cli.up:up", "Start a cluster on this machine, or the nodes of it that are down."),
    "status": ("cli.status:status", "Is the cluster well? Who runs, leads and holds what."),
    "down": ("cli.down:down", "Stop the nodes; everything stays on disk."),
    "purge": ("cli.purge:purge", "Delete a stopped cluster with all its data."),
    "node": ("cli.node:node", "Run one node in the foreground."),
    "topic": ("cli.topic:topic", "Create, list, describe, configure and delete topics."),
    "produce": ("cli.produce:produce", "Write lines from stdin to a topic."),
    "consume": ("cli.consume:consume", "Print the records of topics."),
    "group": ("cli.group:group", "Consumer groups: how far they are; set them anew."),
    "partition": ("cli.partition:partition", "Where partitions lie, what is the matter with them; move them."),
    "broker": ("cli.broker:broker", "Which brokers there are; drain and remove one."),
    "quorum": ("cli.quorum:quorum", "The metadata quorum."),
    "log": ("cli.log:log", "Look into partitions on disk."),
    "shims": ("cli.shims:shims", "Kafka's command names, for scripts written for them."),
}
EPILOG = """\b
A first cluster:
  kraft up -n 3
  kraft topic create events -p 6
  echo hello | kraft produce events
  kraft consume events --from-beginning -n 1

Exit codes: 1 failure, 2 usage, 3 not found, 4 exists already, 5 unavailable, 6 denied, 130 interrupted."""


@click.group(
    name="kraft",
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
)
def root() -> None:
    """A message log that needs nothing but itself: topics, partitions and one Raft quorum, spoken to over HTTP."""


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    if "_KRAFT_COMPLETE" in os.environ:
        root.main(prog_name="kraft")  # a shell asks for completions; click answers and exits
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; every way of ending is an exit code of cli/failure.py."""
    try:
        # not root.main: it takes a closed pipe for a failure
        with root.make_context("kraft", list(arguments)) as context:
            root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except (Failure, click.ClickException, click.Abort, KeyboardInterrupt, OSError) as error:
        return _end(error)
    return ExitCode.OK


def _end(error: BaseException) -> ExitCode:
    """Say what is to be said, and with which code the process ends."""
    code, message = ExitCode.FAILURE, ""
    match error:
        case Failure():
            code, message = error.exit_code, error.message
        case click.UsageError():
            error.show()
            code = ExitCode.USAGE
        case click.ClickException():
            message = error.format_message()
        case BrokenPipeError():
            _forget_stdout()
            code = ExitCode.OK
        case PermissionError():
            code, message = ExitCode.DENIED, _told(error)
        case OSError():
            message = _told(error)
        case _:
            code = ExitCode.INTERRUPTED
    if message:
        click.echo(f"kraft: {message}", err=True)
    return code


def _told(error: OSError) -> str:
    """The world's failure: which file, and what the system says of it."""
    where = f"{error.filename}: " if error.filename else ""
    return where + (error.strerror or str(error) or type(error).__name__)


def _forget_stdout() -> None:
    """`kraft consume ... | head` has what it wanted: leave without a word, also from the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
