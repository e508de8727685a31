"""Starting nodes and waiting for them: what went wrong is told in one line, with the cause from the node's own log.

Invariant: every process that is started here is either ready when `start_all` returns, or named in what it raises.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli import node_process, readiness
from cli.data_directory import LocalNode, shown
from cli.failure import ExitCode, Failure
from cli.ports import holder_of, is_free
from cli.progress import StatusLine
from cli.rendering import nodes_named

if TYPE_CHECKING:
    from subprocess import Popen

POLL_INTERVAL_S: Final = 0.02
PATIENCE_AFTER_DEATH_S: Final = 5.0
STOP_TIMEOUT_S: Final = 10.0
LOG_TAIL_BYTES: Final = 64 * 1024


class Startup:
    """Nodes on their way up: `started` are ours to stop, `waiting` are not ready yet, `dead` ended with a cause."""

    def __init__(self, nodes: Sequence[LocalNode], settings: Sequence[str], environment: Mapping[str, str]) -> None:
        self.started: dict[LocalNode, Popen[bytes]] = {}
        self.waiting: dict[LocalNode, tuple[str, ...]] = dict.fromkeys(nodes, ())
        self.dead: dict[LocalNode, str] = {}
        self._log_offsets: dict[LocalNode, int] = {}
        self._settings = settings
        self._environment = environment

    def start(self, node: LocalNode) -> None:
        """Start one node."""
        self._log_offsets[node] = _size(node.log_file)
        self.started[node] = node_process.start(node, self._settings, self._environment)

    def look(self) -> None:
        """Bring `waiting` and `dead` up to date."""
        for node in list(self.waiting):
            process = self.started.get(node)
            if process is not None and process.poll() is not None:
                self.dead[node] = cause_of_death(node, self._log_offsets[node], process.returncode)
                node.pid_file.unlink(missing_ok=True)
            elif not (found := readiness.ask(node)).ready:
                self.waiting[node] = found.reasons
                if process is None and node_process.running_pid(node) is None:
                    self.start(node)  # it was there a moment ago: killed, and not yet gone when we looked
                continue
            del self.waiting[node]


def check_ports(nodes: Sequence[LocalNode], *, advice: str, patience_s: float = 0.0) -> None:
    """Refuse to start a node whose port somebody has, and say who; a node that was just killed is given a moment."""
    deadline = time.monotonic() + patience_s
    for node in nodes:
        for name, port in (("HTTP", node.http_port), ("Kafka", node.kafka_port), ("peer", node.peer_port)):
            while not (free := is_free(port)) and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)
            if not free:
                raise Failure(
                    f"port {port} ({name} of node {node.node_id}) is in use by {holder_of(port) or 'another process'}; "
                    f"{advice}",
                    ExitCode.CONFLICT,
                )


def start_all(
    nodes: Sequence[LocalNode],
    down: Sequence[LocalNode],
    settings: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    all_or_none: bool,
    status_line: StatusLine,
) -> None:
    """Start those of `nodes` that are down, all at once, and wait until every one of `nodes` is ready.

    `all_or_none`: a first start: when one node fails the others are stopped too.
    """
    startup = Startup(nodes, settings, environment)
    try:
        for node in down:
            startup.start(node)
        _wait(startup, timeout_s=timeout_s, all_or_none=all_or_none, status_line=status_line)
    except KeyboardInterrupt:
        node_process.stop(list(startup.started), timeout_s=STOP_TIMEOUT_S)
        raise
    except Failure:
        if all_or_none:
            node_process.stop(list(startup.started), timeout_s=STOP_TIMEOUT_S)
        raise


def _wait(startup: Startup, *, timeout_s: float, all_or_none: bool, status_line: StatusLine) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        startup.look()
        if startup.dead:
            if all_or_none or not startup.waiting:
                raise _dead(startup.dead)
            deadline = min(deadline, time.monotonic() + PATIENCE_AFTER_DEATH_S)
        if not startup.waiting:
            return
        if time.monotonic() > deadline:
            raise _dead(startup.dead) if startup.dead else _not_ready(startup.waiting, timeout_s)
        if status_line.is_due:
            waiting = nodes_named([node.node_id for node in startup.waiting], verb=False)
            status_line.show(f"waiting for {waiting}")
        time.sleep(POLL_INTERVAL_S)


def _dead(dead: Mapping[LocalNode, str]) -> Failure:
    lines = [
        f"node {node.node_id} did not start: {cause} (its log: {shown(node.log_file)})" for node, cause in dead.items()
    ]
    return Failure("\nkraft: ".join(lines))


def _not_ready(waiting: Mapping[LocalNode, Sequence[str]], timeout_s: float) -> Failure:
    return Failure(f"not ready after {timeout_s:g} s, still running: {_waiting_text(waiting)}", ExitCode.UNAVAILABLE)


def _waiting_text(waiting: Mapping[LocalNode, Sequence[str]]) -> str:
    return "; ".join(
        f"node {node.node_id} waits: {', '.join(reasons) or 'starting'}" for node, reasons in waiting.items()
    )


def cause_of_death(node: LocalNode, log_offset: int, return_code: int) -> str:
    """The last thing that a node said before it ended, or how it ended."""
    with node.log_file.open("rb") as log:
        log.seek(max(log_offset, _size(node.log_file) - LOG_TAIL_BYTES))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if text := _log_text(line):
            return text
    return f"it ended with {f'signal {-return_code}' if return_code < 0 else f'exit code {return_code}'} without a word"


def _log_text(line: str) -> str:
    """A log line for a person: JSON lines by their error or event, those of low level not at all."""
    if not line.startswith("{"):
        return line.removeprefix("kraft node: ").removeprefix("kraft: ")
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return line
    if entry.get("level") not in ("error", "critical", "fatal"):
        return ""
    parts = [str(entry[key]) for key in ("event", "error", "reason") if entry.get(key)]
    return ": ".join(parts)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
