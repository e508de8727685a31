"""Nodes in network namespaces: what `test_networks.py` says holds for packets too, and a real cluster lives there.

Runs everything in namespaces of its own, as `scripts/faults` does; skips where this machine has none to give.
"""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import network_choice
from tests.faults.namespaces import TOOLS, NoNamespacesError, tool

PROJECT = Path(__file__).resolve().parents[2]
OWN = ("unshare", "--user", "--map-root-user", "--pid", "--net", "--mount", "--fork", "--kill-child", "--mount-proc")
ASK = (
    "from tests.faults import namespaces, own_namespace\n"
    "own_namespace.bring_loopback_up()\n"
    "print(namespaces.why_not() or '', end='')\n"
)


@functools.cache
def why_not() -> str:
    """Why this machine has no namespaces to give; empty where it has."""
    try:
        for name in TOOLS:
            tool(name)
    except NoNamespacesError as error:
        return str(error)
    if subprocess.run([*OWN, "true"], capture_output=True, check=False).returncode != 0:
        return "this kernel lets nobody make namespaces"
    asked = run(sys.executable, "-c", ASK)
    return asked.stdout if asked.returncode == 0 else ""


def run(*command: str, timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OWN, *command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=timeout_s
    )  # fmt: skip


@pytest.fixture
def own() -> None:
    if reason := why_not():
        pytest.skip(reason)


def test_packets_do_what_a_network_does(own: None, tmp_path: Path):
    """The sentences of test_networks.py, and those about packets only."""
    options = ["-v", "-p", "no:cacheprovider", "-k", "namespaces", "--basetemp", str(tmp_path / "there")]
    ran = run(sys.executable, "-m", "pytest", *options, str(Path(__file__).with_name("test_networks.py")))
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "test_a_namespace_is_gone_with_its_network[namespaces] PASSED" in ran.stdout


def test_whoever_cannot_have_namespaces_is_told_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(network_choice, "why_not", lambda: "there is no nft here")
    choice = network_choice.choose()
    assert ("proxies", "there is no nft here; faults are on bytes") == (choice.kind, choice.why)
    with pytest.raises(NoNamespacesError, match="there is no nft here"):
        network_choice.choose("namespaces")


def test_namespaces_are_used_where_they_can_be_had_unless_proxies_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(network_choice, "why_not", lambda: None)
    assert "namespaces" == network_choice.choose().kind
    assert "namespaces" == network_choice.choose("namespaces").kind
    assert "proxies" == network_choice.choose("proxies").kind


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(NoNamespacesError, match=r"no nft here .*nftables"):
        tool("nft")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_campaign_runs_in_namespaces_and_a_broker_joins_there(own: None, tmp_path: Path):
    options = ["--minutes", "0.5", "--seed", "1", "--only", "partition,loss,growth", "--network", "namespaces"]
    ran = run(sys.executable, "-m", "tests.faults.campaign", *options, "--keep", str(tmp_path), timeout_s=590)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "network between the nodes: namespaces: " in ran.stdout
