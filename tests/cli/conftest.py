"""Runs the command line in this process: exit code, stdout and stderr of one command."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.main import run
from tests.cli.fake_cluster import FakeCluster


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def cluster() -> Iterator[Any]:
    with FakeCluster() as fake:
        yield fake


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a cluster, and nothing of the caller's environment."""
    for name in ("KRAFT_BOOTSTRAP_SERVER", "KRAFT_DATA_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kraft(
    away: Path, cluster: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """`kraft("topic", "list", stdin=b"...")` against the fake cluster; `-b` of one's own replaces it."""

    def call(*arguments: str, stdin: bytes = b"") -> Ended:
        source = away / "stdin"
        source.write_bytes(stdin)
        monkeypatch.setenv("KRAFT_BOOTSTRAP_SERVER", cluster.address)
        with source.open() as opened:
            monkeypatch.setattr(sys, "stdin", opened)
            code = run(list(arguments))
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call
