"""`kafka-consumer-groups` as a shim: Kafka's options become the arguments of `kraft group`."""

import re
from collections.abc import Sequence
from typing import Final

import click

from cli.invocation import CONTEXT_SETTINGS
from cli.shims_options import bootstrap_arguments, bootstrap_options, chosen_servers

_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
"""ISO 8601, as Kafka's `--by-duration` takes it."""
_DURATION_S: Final = (86_400, 3_600, 60, 1)


@click.command(context_settings=CONTEXT_SETTINGS)
@bootstrap_options
@click.option("--list", "action", flag_value="list", help="List the names of all groups.")
@click.option("--describe", "action", flag_value="describe", help="Committed offsets and lags.")
@click.option("--delete", "action", flag_value="delete", help="Delete groups without members.")
@click.option("--reset-offsets", "action", flag_value="seek", help="Set offsets anew; a dry run without --execute.")
@click.option("--group", "groups", metavar="GROUP", multiple=True)
@click.option("--all-groups", is_flag=True, help="With --describe.")
@click.option("--members", is_flag=True, help="With --describe: who is in it.")
@click.option("--state", is_flag=True, help="With --describe: its state and coordinator.")
@click.option("--offsets", is_flag=True, help="With --describe: what it shows anyway.")
@click.option("--verbose", is_flag=True, help="More columns.")
@click.option("--topic", "topics", metavar="TOPIC[:N,N]", multiple=True)
@click.option("--all-topics", is_flag=True)
@click.option("--to-earliest", "place", flag_value="start")
@click.option("--to-latest", "place", flag_value="end")
@click.option("--to-offset", type=click.IntRange(min=0), metavar="N")
@click.option("--to-datetime", metavar="TIME")
@click.option("--by-duration", metavar="PnDTnHnMnS", help="To the offsets of so long ago.")
@click.option("--shift-by", type=int, metavar="N")
@click.option("--dry-run", is_flag=True)
@click.option("--execute", is_flag=True)
@click.option("--timeout", metavar="MS", hidden=True)
def kafka_consumer_groups(
    *,
    bootstrap_server: str | None,
    zookeeper: str | None,
    action: str | None,
    groups: tuple[str, ...],
    all_groups: bool,
    members: bool,
    state: bool,
    offsets: bool,  # noqa: ARG001 - accepted, as its help says
    verbose: bool,
    topics: tuple[str, ...],
    all_topics: bool,
    place: str | None,
    to_offset: int | None,
    to_datetime: str | None,
    by_duration: str | None,
    shift_by: int | None,
    dry_run: bool,
    execute: bool,
    timeout: str | None,  # noqa: ARG001 - accepted: kraft has its own
) -> list[str]:
    """List, describe, reset and delete consumer groups: the options of Kafka's tool, done by kraft group."""
    if action is None:
        raise click.UsageError("Say what to do: --list, --describe, --reset-offsets or --delete.")
    arguments = bootstrap_arguments(chosen_servers(bootstrap_server, zookeeper))
    if action == "list":
        return [*arguments, "-q", "group", "list"]
    if not groups and not (all_groups and action == "describe"):
        raise click.UsageError("Name the group: --group GROUP.")
    if action == "delete":
        return [*arguments, "group", "delete", "--", *groups]
    if action == "describe":
        shown = [*(["--members"] if members else []), *(["--state"] if state else [])]
        wide = ["--format", "wide"] if verbose else []
        return [*arguments, "group", "describe", *shown, *wide, "--", *(() if all_groups else groups)]
    if len(groups) != 1:
        raise click.UsageError("--reset-offsets takes one --group at a time.")
    if not topics and not all_topics:
        raise click.UsageError("Say of which topics: --topic TOPIC[:N,N], or --all-topics.")
    if dry_run and execute:
        raise click.UsageError("--dry-run changes nothing and --execute does: use one of them.")
    chosen = [
        ("--to", place),
        ("--to", None if to_offset is None else str(to_offset)),
        ("--to", None if to_datetime is None else f"@{to_datetime}"),
        ("--to", None if by_duration is None else f"@-{_seconds(by_duration)}s"),
        ("--by", None if shift_by is None else str(shift_by)),
    ]
    return [*arguments, "group", "seek", *_seek(chosen, topics, execute=execute), "--", groups[0]]


def _seek(chosen: Sequence[tuple[str, str | None]], topics: Sequence[str], *, execute: bool) -> list[str]:
    where = [(option, value) for option, value in chosen if value is not None]
    if len(where) != 1:
        raise click.UsageError(
            "Say where to, once: --to-earliest, --to-latest, --to-offset, --to-datetime, --by-duration or --shift-by."
        )
    (option, value) = where[0]
    arguments = [f"{option}={value}"]
    arguments += [argument for topic in topics for argument in ("-t", topic)]
    return arguments if execute else [*arguments, "--dry-run"]


def _seconds(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise click.UsageError(f"--by-duration {text}: expected such as P1D, PT2H or PT90S.")
    return sum(int(number or 0) * unit_s for number, unit_s in zip(found.groups(), _DURATION_S, strict=True))
