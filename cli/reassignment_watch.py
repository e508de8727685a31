"""Waiting for partitions to arrive: what is still under way, how far it is, and what became of each.

Owns the end of a move as a person sees it: arrived, given up by somebody, deleted. Invariant: nothing is called arrived
before the cluster lists it at its target with no reassignment in progress.
"""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from cli.cluster_partitions import Row, list_brokers, list_partitions, reassignments, target_of
from cli.failure import ExitCode, Failure
from cli.http_client import HttpClient, RequestFailure
from cli.invocation import Invocation
from cli.progress import StatusLine
from cli.reassignment_plan import Move
from cli.rendering import count

POLL_MIN_S: Final = 0.05
POLL_MAX_S: Final = 1.0
SETTLE_S: Final = 3.0
"""So long another node may take to hear of a move that has begun: until then "not moving" may mean "not yet"."""
TOLD_EVERY_S: Final = 10.0
Key = tuple[str, int]


class ReassignmentWatch:
    """Moves that were asked for."""

    def __init__(self, invocation: Invocation, client: HttpClient, moves: Sequence[Move]) -> None:
        self._invocation = invocation
        self._client = client
        self._moves: dict[Key, Move] = {(move.topic, move.partition): move for move in moves}
        self._waiting = dict(self._moves)
        self._states: dict[Key, str] = {}
        self._began_s = time.monotonic()
        self._doubtful_since: dict[Key, float] = {}

    def wait(self) -> None:
        """Until every move has ended; ends the command at the timeout, and says that the moves go on."""
        timeout_s = self._invocation.timeout_s
        pause_s = POLL_MIN_S
        told_s = time.monotonic()
        try:
            with StatusLine(self._invocation) as status_line:
                while True:
                    moving = reassignments(self._client)
                    self._look(moving, status_line)
                    if not self._waiting:
                        return
                    text = self._progress(moving)
                    status_line.show(text)
                    if not status_line.enabled and time.monotonic() - told_s > TOLD_EVERY_S:
                        self._invocation.notice(text)
                        told_s = time.monotonic()
                    if timeout_s is not None and time.monotonic() - self._began_s > timeout_s:
                        raise Failure(
                            f"{count(len(self._waiting), 'partition')} not moved yet after {timeout_s:g} s"
                            f"{self._hindrance()}; {_goes_on()}",
                            ExitCode.UNAVAILABLE,
                        )
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, POLL_MAX_S)
        except KeyboardInterrupt:
            left = count(len(self._waiting), "partition")
            raise Failure(f"interrupted, {left} not moved yet; {_goes_on()}", ExitCode.INTERRUPTED) from None

    def report(self, *, waited: bool) -> list[Row]:
        """Say what became of all, and return it; ends the command where one did not arrive."""
        if not waited:
            self._states = dict.fromkeys(self._moves, "moving")
        if self._invocation.format == "ndjson":
            for key in self._moves if not waited else ():
                click.echo(json.dumps(self._row(key)))
        elif self._invocation.format != "json" and not waited:
            click.echo(f"{count(len(self._moves), 'partition')} on the way: kraft partition list --reassigning")
        elif self._invocation.format != "json" and (arrived := self._arrived()):
            seconds = time.monotonic() - self._began_s
            click.echo(f"Moved {count(arrived, 'partition')} in {seconds:.1f} s.")
        lost = [key for key, state in self._states.items() if state in ("cancelled", "deleted")]
        if lost:
            named = ", ".join(f"{topic}-{partition} was {self._states[topic, partition]}" for topic, partition in lost)
            raise Failure(f"not moved: {named}", ExitCode.CONFLICT)
        return [self._row(key) for key in self._moves]

    def _arrived(self) -> int:
        return sum(state == "moved" for state in self._states.values())

    def _look(self, moving: dict[Key, Row], status_line: StatusLine) -> None:
        """Take note of the moves that have ended."""
        gone = [key for key in self._waiting if key not in moving]
        for topic in dict.fromkeys(topic for topic, _ in gone):
            try:
                rows = {row["partition_id"]: row for row in list_partitions(self._client, topic=topic)}
            except RequestFailure as failure:
                if failure.exit_code is not ExitCode.NOT_FOUND:
                    raise
                rows = {}
            for key in gone:
                if key[0] == topic and (state := self._state(key, rows.get(key[1]))) is not None:
                    self._end(key, state, status_line)

    def _state(self, key: Key, row: Row | None) -> str | None:
        """None where it can't be said yet."""
        if row is None:
            return self._settled(key, "deleted")
        if {*row["replica_ids"]} == {*self._moves[key].replicas} and target_of(row) == row["replica_ids"]:
            return "moved"
        return self._settled(key, "cancelled")

    def _settled(self, key: Key, state: str) -> str | None:
        since = self._doubtful_since.setdefault(key, time.monotonic())
        return state if time.monotonic() - since > SETTLE_S else None

    def _end(self, key: Key, state: str, status_line: StatusLine) -> None:
        move = self._waiting.pop(key)
        self._states[key] = state
        if self._invocation.format == "ndjson":
            click.echo(json.dumps(self._row(key)))
        elif not self._invocation.is_machine_readable and state == "moved":
            status_line.clear()
            before, after = (",".join(map(str, ids)) for ids in (move.before, move.replicas))
            click.echo(f"{move.topic}-{move.partition}  {before} -> {after}")

    def _row(self, key: Key) -> dict[str, Any]:
        move = self._moves[key]
        return {
            "topic_name": move.topic,
            "partition_id": move.partition,
            "replica_ids_before": list(move.before),
            "replica_ids": list(move.replicas),
            "state": self._states.get(key, "moving"),
        }

    def _progress(self, moving: dict[Key, Row]) -> str:
        """One line: how many are there, how much is left."""
        there = len(self._moves) - len(self._waiting)
        left = [moving[key]["remaining_offsets"] for key in self._waiting if key in moving]
        known = [remaining for remaining in left if remaining is not None]
        text = f"{there} of {count(len(self._moves), 'partition')} moved"
        if known:
            text += f", {count(sum(known), 'record')} to copy{' or more' if len(known) < len(left) else ''}"
        leaderless = sum(moving[key]["leader_id"] is None for key in self._waiting if key in moving)
        return text + (f", {count(leaderless, 'partition')} without a leader: waiting for it" if leaderless else "")

    def _hindrance(self) -> str:
        """The likely reason why it takes so long: a broker that is away."""
        wanted = {broker for key in self._waiting for broker in self._moves[key].replicas}
        away = [b["broker_id"] for b in list_brokers(self._client) if b["is_fenced"] and b["broker_id"] in wanted]
        return f" (broker {', '.join(map(str, away))} is fenced)" if away else ""


def _goes_on() -> str:
    return "it goes on: kraft partition list --reassigning shows it, kraft partition move TOPIC --cancel ends it"
