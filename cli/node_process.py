"""The operating system's side of a node: starting it detached, knowing that a pid is really it, stopping it.

Invariant: no signal goes to a process that is not the node. A pid is taken for the node's only while its start time is
the one that was written down at its start and its command line names the node's own configuration file.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cli.data_directory import LocalNode

POLL_INTERVAL_S: Final = 0.01


class ProcessIdentity(NamedTuple):
    """What tells one process from a later one with the same pid."""

    started: str
    command_line: str


def node_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs one node in the foreground; `-P` keeps the working directory out of its imports."""
    return [sys.executable, "-P", "-m", "kraft_bundle.server", *arguments]


def start(node: LocalNode, settings: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a node in a session of its own, its output in its log file; it outlives this command and its terminal."""
    overrides = [text for setting in settings for text in ("--set", setting)]
    with node.log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            node_command(["-c", str(node.config_file), *overrides]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=node.directory,
            env=environment,
            start_new_session=True,
        )
    write_pid(node, process.pid)
    return process


def write_pid(node: LocalNode, pid: int) -> None:
    """Remember which process is the node's, by pid and start time."""
    identity = process_identity(pid)
    node.pid_file.write_text(f"{pid} {identity.started if identity else ''}\n", encoding="ascii")


def running_pid(node: LocalNode) -> int | None:
    """The pid of the node's process, or None where it does not run."""
    try:
        pid_text, _, started = node.pid_file.read_text(encoding="ascii").strip().partition(" ")
        pid = int(pid_text)
    except (OSError, ValueError):
        return None
    identity = process_identity(pid)
    if identity is None or identity.started != started:
        return None
    if identity.command_line and str(node.config_file) not in identity.command_line:
        return None  # an empty one is that of a process which is ending
    return pid


def process_identity(pid: int) -> ProcessIdentity | None:
    """When a process was started and by which command; None for one that is gone or only waits to be reaped."""
    folder = Path("/proc", str(pid))
    if not Path("/proc/self/stat").exists():
        return _identity_from_ps(pid)
    try:
        # after the command's name, which may hold blanks and brackets: state is field 3, start time field 22
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        command_line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):
        return None
    return None if _is_over(folder, fields[0]) else ProcessIdentity(fields[19], command_line)


def _is_over(folder: Path, state: str) -> bool:
    """Nothing of it is left but its entry: while another of its threads ends, its sockets may still be open."""
    if state == "X":
        return True
    try:
        return state == "Z" and len(list((folder / "task").iterdir())) <= 1
    except OSError:
        return True


def _identity_from_ps(pid: int) -> ProcessIdentity | None:
    """For systems without /proc."""
    command = ["ps", "-ww", "-o", "lstart=,command=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - as above
    words = answer.split()
    return ProcessIdentity("_".join(words[:5]), answer) if len(words) > 5 else None


def send_signal(node: LocalNode, number: signal.Signals) -> bool:
    """Signal the node if it runs; True when it did."""
    if (pid := running_pid(node)) is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stop(nodes: Sequence[LocalNode], *, timeout_s: float) -> tuple[list[LocalNode], list[LocalNode]]:
    """SIGTERM to all at once, SIGKILL to those that are still there after the timeout: (stopped, killed)."""
    asked = [node for node in nodes if send_signal(node, signal.SIGTERM)]
    left = _wait_until_gone(asked, timeout_s)
    for node in left:
        send_signal(node, signal.SIGKILL)
    _wait_until_gone(left, timeout_s)
    for node in asked:
        if running_pid(node) is None:
            node.pid_file.unlink(missing_ok=True)
    return [node for node in asked if node not in left], left


def _wait_until_gone(nodes: Sequence[LocalNode], timeout_s: float) -> list[LocalNode]:
    """Those that still run when the time is up."""
    deadline = time.monotonic() + timeout_s
    left = [node for node in nodes if running_pid(node) is not None]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
        left = [node for node in left if running_pid(node) is not None]
    return left
