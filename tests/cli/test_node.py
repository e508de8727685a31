"""`kraft node` becomes the node itself: what it is told reaches the node, and two never share a folder."""

import os
import sys

import pytest

from broker.config import load_config
from cli import node_process
from cli.data_directory import LocalCluster, LocalNode
from cli.formation import form, own_settings


@pytest.fixture
def executed(monkeypatch):
    found = []
    monkeypatch.setattr("cli.node.os.execv", lambda program, arguments: found.append((program, arguments)))
    return found


@pytest.fixture
def local(away):
    node = LocalNode(1, 18082, 19092, 19093, True, away / "kraft-data" / "node-1")  # noqa: FBT003 - is_voter
    cluster = LocalCluster("5L6g3nShT-eMCtK--X86sw", away / "kraft-data", (node,))
    (away / "kraft-data").mkdir()
    form(cluster, [])
    return node


def test_it_becomes_the_node_with_what_it_was_told(kraft, executed, away):
    (away / "node.toml").touch()
    given = ("-c", "node.toml", "--set", "num.partitions=3", "--format", "--insecure-listeners")
    assert 0 == kraft("node", *given).code
    told = ["-c", str(away / "node.toml"), "--set", "num.partitions=3", "--format-directory", "--insecure-listeners"]
    assert [(sys.executable, [sys.executable, "-P", "-m", "kraft_bundle.server", *told])] == executed


def test_a_file_that_is_not_there_is_told_at_once(kraft, executed):
    assert 3 == kraft("node", "-c", "nowhere.properties").code
    assert [] == executed


def test_a_node_of_a_local_cluster_is_still_seen_by_status_and_down(kraft, executed, local):
    assert 0 == kraft("node", "-c", str(local.config_file)).code
    assert f"{os.getpid()} " in local.pid_file.read_text()
    assert 1 == len(executed)


def test_a_node_that_runs_is_not_started_twice(kraft, executed, local, monkeypatch):
    monkeypatch.setattr(node_process, "running_pid", lambda _: 4242)
    ended = kraft("node", "-c", str(local.config_file))
    assert (4, "kraft: node 1 is running already (pid 4242)\n") == (ended.code, ended.err)
    assert [] == executed


def test_what_up_writes_is_a_configuration_that_a_node_takes(local, away):
    config, warnings = load_config(local.config_file, {}, [])
    assert [] == warnings
    assert away / "kraft-data" / "node-1" / "metadata" == config.metadata_directory
    assert (away / "kraft-data" / "node-1" / "data",) == config.log_directories
    assert {1: ("127.0.0.1", 19093)} == config.voters
    assert "5L6g3nShT-eMCtK--X86sw" == config.cluster_id
    assert own_settings(LocalCluster("x", away, (local,)), local)
