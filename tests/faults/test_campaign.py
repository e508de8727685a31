"""`scripts/faults` does what its page says, tells what it saw, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.fault_kinds import KINDS

PROJECT = Path(__file__).resolve().parents[2]
MODULE = [sys.executable, "-m", "tests.faults.campaign"]


def run(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=timeout_s
    )


def test_every_kind_is_listed_with_what_it_does():
    listed = run("--list").stdout.splitlines()
    assert list(KINDS) == [line.split()[0] for line in listed]


def test_the_page_names_every_kind():
    page = (PROJECT / "docs" / "proof" / "faults.md").read_text(encoding="utf-8")
    assert [] == [name for name in KINDS if f"`{name}`" not in page]


def test_a_kind_that_does_not_exist_is_refused_with_those_that_do():
    refused = run("--only", "kill,flood")
    assert 2 == refused.returncode
    assert "there is no flood; there are kill" in refused.stderr


def descendants(folder: Path) -> list[str]:
    """Processes whose command line names this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_short_campaign_prints_its_table_and_finds_nothing(tmp_path: Path):
    ran = run("--minutes", "0.3", "--seed", "1", "--only", "kill,partition", "--keep", str(tmp_path), timeout_s=390)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    total = next(line.split() for line in ran.stdout.splitlines() if line.startswith("all "))
    assert int(total[1]) >= 1
    assert ["0", "0", "0"] == total[5:8]
    assert re.search(r"again: scripts/faults .*--seed 1 ", ran.stdout)
    assert [] == descendants(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_campaign_leaves_nothing_behind(tmp_path: Path, number: signal.Signals):
    command = [*MODULE, "--minutes", "5", "--only", "kill", "--keep", str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, env=os.environ) as campaign:
        assert campaign.stdout is not None
        while " kill at node" not in campaign.stdout.readline():
            assert campaign.poll() is None
        campaign.send_signal(number)
        told = campaign.stdout.read()
        assert 130 == campaign.wait(120)
    assert "interrupted: nothing of it is left running" in told
    deadline_s = time.monotonic() + 10
    while descendants(tmp_path) and time.monotonic() < deadline_s:
        time.sleep(0.1)  # sleeps: processes that were killed need a moment to be gone
    assert [] == descendants(tmp_path)
