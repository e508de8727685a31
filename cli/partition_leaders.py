"""`kraft partition transfer-leader`: who leads is an operator's choice, among those that hold everything.

Refuses, without a word of consent, the one choice that loses records: a leader that was not in sync.
"""

from collections.abc import Sequence
from typing import Any

import click

from cli.cluster_partitions import (
    PARTITIONS,
    Named,
    failures_told,
    key_of,
    name_of,
    parse_named,
    parse_partition,
    partitions_of,
)
from cli.failure import ExitCode, Failure
from cli.http_client import HttpClient, RequestFailure
from cli.invocation import command, current
from cli.rendering import count, print_rows


@command("transfer-leader")
@click.argument("names", metavar="[TOPIC-PARTITION...]", nargs=-1)
@click.option("--to", "leader_id", type=click.IntRange(min=0), metavar="ID", help="The broker that shall lead.")
@click.option(
    "--preferred", is_flag=True, help="The first replica of each; of all partitions, or of those (and topics) named."
)
@click.option("--unclean", is_flag=True, help="Accept the loss of records that no replica left has. Asks first.")
def transfer_leader(*, names: tuple[str, ...], leader_id: int | None, preferred: bool, unclean: bool) -> None:
    """Let another replica lead, at once and without a failed request.

    \b
      kraft partition transfer-leader orders-0 --to 2
      kraft partition transfer-leader --preferred             where others than the first replica lead
      kraft partition transfer-leader orders-0 --unclean      last resort: no replica that had everything is left

    The new leader must be in sync. With --unclean it need not, for partitions that have no leader: what only the lost
    replicas had is gone then, and consumers may have seen it.
    """  # noqa: D301 - click's mark for "keep these lines"
    invocation = current()
    if preferred and (leader_id is not None or unclean):
        raise click.UsageError("--preferred is the first replica: leave out --to and --unclean.")
    if not preferred and not names:
        raise click.UsageError("Name the partitions, such as orders-0, or say --preferred.")
    client = HttpClient.of(invocation)
    rows = partitions_of(client, [_named(client, text, may_be_topic=preferred) for text in names])
    wish: dict[str, Any] = {"election": "PREFERRED" if preferred else "UNCLEAN" if unclean else "DESIGNATED"}
    if rows:
        wish["partitions"] = [{"topic_name": row["topic_name"], "partition_id": row["partition_id"]} for row in rows]
    if leader_id is not None:
        wish["leader_id"] = leader_id
    if unclean:
        named = ", ".join(map(name_of, rows[:5])) + (", ..." if len(rows) > 5 else "")
        invocation.confirm(f"Elect a leader for {named} that may lack acknowledged records, and lose these for good?")
        wish["accept_data_loss"] = True
    may_repeat = leader_id is not None or wish["election"] != "DESIGNATED"  # else it would go round
    answer = client.send("POST", f"{PARTITIONS}:elect-leaders", wish, repeatable=may_repeat)
    before = {key_of(row): row["leader_id"] for row in rows}
    done = [{**found, "leader_id_before": before.get(key_of(found))} for found in answer["successes"]]
    _report(done, rows)
    if failures := answer["failures"]:
        raise Failure(failures_told(failures, "kept the leader they had" if len(failures) > 1 else "kept its leader"))


def _named(client: HttpClient, text: str, *, may_be_topic: bool) -> Named:
    """`orders-0`; where topics are meant too, whatever is a topic's name is that topic."""
    if may_be_topic:
        try:
            partitions_of(client, [parse_named(text)])
        except RequestFailure as failure:
            if failure.exit_code is not ExitCode.NOT_FOUND or "-" not in text:
                raise
        else:
            return parse_named(text)
    topic, number = parse_partition(text)
    return Named(topic, (number,))


def _report(done: Sequence[dict[str, Any]], asked: Sequence[Any]) -> None:
    invocation = current()
    if invocation.is_machine_readable:
        print_rows(invocation, (), done)
    elif asked:
        for row in done:
            click.echo(f"{name_of(row)}: {_what_became(row)}")
    else:
        changed = count(len(done), "partition")
        is_led = "is led by its" if len(done) == 1 else "are led by their"
        click.echo(
            f"{changed} {is_led} first replica again." if done else "The first replicas lead everywhere already."
        )


def _what_became(row: dict[str, Any]) -> str:
    if not row["changed"]:
        return str(row["message"])
    before = row["leader_id_before"]
    return f"broker {row['leader_id']} leads" + ("" if before is None else f", broker {before} did")
