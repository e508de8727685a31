"""A cluster on this machine: from nothing to N nodes with one command, and never a wrong process or folder touched."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.meta_properties import read_formation, read_meta_properties
from cli import growth, node_process
from cli.bootstrap import parse_server, servers
from cli.data_directory import LocalCluster, LocalNode, exclusive, read_cluster
from cli.formation import voter_count
from cli.invocation import Invocation
from cli.ports import free_ports, holder_of, is_free, usual_http_port, usual_ports

FAKE_NODE = Path(__file__).with_name("fake_node.py")


@pytest.fixture(autouse=True)
def fake_nodes(monkeypatch, away):
    """Nodes of one small script; whatever a test leaves running is ended by its pid."""
    monkeypatch.setattr(node_process, "node_command", lambda arguments: [sys.executable, str(FAKE_NODE), *arguments])
    started, start = [], node_process.start

    def remembered(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(node_process, "start", remembered)
    yield
    for folder in away.iterdir():
        cluster = read_cluster(folder) if folder.is_dir() else None
        if cluster is not None:
            node_process.stop(cluster.nodes, timeout_s=0.01)
    for process in started:
        process.wait(10)


def pids(document) -> list[int]:
    return [node["pid"] for node in document["nodes"]]


def up(kraft, *arguments):
    ended = kraft("up", "--any-port", "--format", "json", *arguments)
    assert 0 == ended.code, ended.err
    return json.loads(ended.out)


def test_from_nothing_to_three_nodes_and_back(kraft, away):
    found = up(kraft, "-n", "3")
    assert {"cluster_id", "data_dir", "nodes"} == set(found)
    assert str(away / "kraft-data") == found["data_dir"]
    assert [1, 2, 3] == [node["node_id"] for node in found["nodes"]]
    for node in found["nodes"]:
        assert {"node_id", "http", "kafka", "peer", "pid"} == set(node)
        assert node_process.process_identity(node["pid"]) is not None
        assert node["http"].startswith("http://127.0.0.1:")
        assert node["kafka"].startswith("127.0.0.1:")
    assert "Stopped 3 nodes" in kraft("down").out
    assert all(node_process.process_identity(pid) is None for pid in pids(found))
    assert 0 == kraft("down").code
    assert 0 == kraft("purge", "-y").code
    assert not (away / "kraft-data").exists()


def test_an_existing_cluster_is_started_with_the_ports_it_had(kraft):
    before = up(kraft, "-n", "3")
    os.kill(before["nodes"][1]["pid"], signal.SIGKILL)
    after = up(kraft)
    assert [node["http"] for node in before["nodes"]] == [node["http"] for node in after["nodes"]]
    assert [True, False, True] == [a == b for a, b in zip(pids(before), pids(after), strict=True)]
    assert "3 nodes already running." in kraft("up").out
    assert 4 == kraft("up", "-n", "2").code
    assert 0 == kraft("up", "-n", "3").code


def test_a_cluster_from_before_the_kafka_listener_gets_one_on_the_port_that_was_kept_for_it(kraft, away):
    found = up(kraft, "-n", "2")
    kraft("down")
    files = sorted(away.glob("kraft-data/node-*/server.properties"))
    for file in files:
        lines = [line for line in file.read_text().splitlines() if not line.startswith("listeners=")]
        file.write_text("\n".join(lines))
    up(kraft)
    up(kraft)
    for file, node in zip(files, found["nodes"], strict=True):
        assert [f"listeners=PLAINTEXT://{node['kafka']}"] == [
            line for line in file.read_text().splitlines() if line.startswith("listeners")
        ]


def test_one_node_is_stopped_and_started(kraft):
    before = up(kraft, "-n", "3")
    assert {"stopped": [2], "killed": []} == json.loads(kraft("down", "--node", "2", "--format", "json").out)
    assert "No node was running." in kraft("down", "--node", "2").out
    after = up(kraft, "--node", "2")
    assert [True, False, True] == [a == b for a, b in zip(pids(before), pids(after), strict=True)]
    ended = kraft("up", "--node", "7")
    assert (3, "kraft: ./kraft-data has no node 7: it has 1, 2, 3\n") == (ended.code, ended.err)
    assert 3 == kraft("down", "--node", "7").code


def test_nodes_are_added_with_the_settings_of_the_others_and_no_vote(kraft, away):
    before = up(kraft, "-n", "3", "--set", "num.partitions=3")
    found = up(kraft, "--add", "2", "--set", "log.level=debug")
    assert [1, 2, 3, 4, 5] == [node["node_id"] for node in found["nodes"]]
    assert pids(before) == pids(found)[:3]
    folder = away / "kraft-data" / "node-4"
    assert found["cluster_id"] == read_meta_properties(folder).cluster_id
    assert read_formation(folder) is None
    lines = (folder / "server.properties").read_text().splitlines()
    assert {"process.roles=broker", "num.partitions=3", "log.level=debug"} <= set(lines)
    voters = [line for line in lines if line.startswith("controller.quorum.voters=")]
    assert voters == [
        line for line in (away / "kraft-data" / "node-1" / "server.properties").read_text().splitlines()
        if line.startswith("controller.quorum.voters=")
    ]  # fmt: skip
    kraft("down")
    assert 5 == len(up(kraft)["nodes"])
    ended = kraft("up", "--add", "1")
    assert ("Added node 6 in", True) == (ended.out[:15], "6 nodes in all." in ended.out)
    assert "kraft partition move TOPIC --to 1,2,3,4,5,6" in ended.err


def test_a_node_that_can_not_be_added_leaves_nothing(kraft, away):
    up(kraft, "-n", "2")
    ended = kraft("up", "--add", "1", "--set", "broker.rack=dies@3")
    assert (1, "node 3 did not start: the disk is full" in ended.err) == (ended.code, True)
    assert not (away / "kraft-data" / "node-3").exists()
    assert 2 == len(read_cluster(away / "kraft-data").nodes)
    (away / "kraft-data" / "node-3" / "data").mkdir(parents=True)
    ended = kraft("up", "--add", "1")
    assert (4, "holds data" in ended.err) == (ended.code, True)


def test_there_must_be_something_to_add_to(kraft):
    assert 3 == kraft("up", "--add", "1").code
    up(kraft)
    assert 2 == kraft("up", "--add", "1", "-n", "2").code
    assert "kraft up --add 2" in kraft("up", "-n", "3").err


def test_ids_of_brokers_elsewhere_are_not_given_again(away):
    cluster = LocalCluster("x", away, (LocalNode(1, 8082, 9092, 9093, True, away / "node-1"),))  # noqa: FBT003 - is_voter
    (node,) = growth.plan(cluster, 1, [1, 4], any_port=False)
    assert (5, *usual_ports(5)) == (node.node_id, node.http_port, node.kafka_port, node.peer_port)
    (node,) = growth.plan(cluster, 1, [1, 4], any_port=True)
    assert node.http_port != usual_ports(5)[0]


def test_all_voters_are_formatted_with_one_cluster_and_know_each_other(kraft, away):
    found = up(kraft, "-n", "4", "--set", "num.partitions=3")
    folders = [away / "kraft-data" / f"node-{node_id}" for node_id in (1, 2, 3, 4)]
    identities = [read_meta_properties(folder) for folder in folders]
    assert {found["cluster_id"]} == {identity.cluster_id for identity in identities}
    formations = [read_formation(folder) for folder in folders]
    assert all(formation == formations[0] for formation in formations)
    assert {i.node_id: i.directory_id for i in identities[:3]} == formations[0].voter_directories
    text = (folders[3] / "server.properties").read_text()
    assert "process.roles=broker\n" in text
    assert "num.partitions=3\n" in text


@pytest.mark.parametrize(("nodes", "factor", "minimum"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)])
def test_a_topic_has_as_many_copies_as_are_safe_and_writable(kraft, away, nodes, factor, minimum):
    up(kraft, "-n", str(nodes))
    for file in away.glob("kraft-data/node-*/server.properties"):
        assert {f"default.replication.factor={factor}", f"min.insync.replicas={minimum}"} <= set(
            file.read_text().splitlines()
        )


def test_who_wants_other_copies_says_so(kraft, away):
    up(kraft, "-n", "3", "--set", "default.replication.factor=1")
    text = (away / "kraft-data" / "node-3" / "server.properties").read_text()
    assert ["default.replication.factor=1"] == [line for line in text.splitlines() if line.startswith("default.rep")]


@pytest.mark.parametrize(("nodes", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)])
def test_the_quorum_is_odd_and_never_larger_than_five(nodes, voters):
    assert voters == voter_count(nodes)


def test_a_typo_starts_nothing_and_leaves_nothing(kraft, away):
    ended = kraft("up", "--set", "num.partition=3")
    assert (2, 1) == (ended.code, len(ended.err.splitlines()))
    assert "did you mean num.partitions?" in ended.err
    assert "kraft up sets it" in kraft("up", "--set", "http.listeners=http://127.0.0.1:1").err
    assert not (away / "kraft-data").exists()


def test_a_port_in_use_is_one_line_that_names_it_and_whoever_has_it(kraft, away, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr("cli.formation.usual_ports", lambda _: (port, *free_ports(2)))
        ended = kraft("up")
        assert (4, 1) == (ended.code, len(ended.err.splitlines()))
        assert f"port {port} (HTTP of node 1) is in use by" in ended.err
        assert f"(pid {os.getpid()})" in ended.err
        assert "--any-port" in ended.err
        assert not (away / "kraft-data").exists()


@pytest.mark.parametrize(
    ("mode", "part"),
    [("dies@2", "node 2 did not start: the disk is full"), ("quiet@3", "exit code 3 without a word")],
)
def test_a_node_that_dies_at_the_first_start_is_told_with_its_cause_and_nothing_runs_on(kraft, away, mode, part):
    ended = kraft("up", "-n", "3", "--any-port", "--set", f"broker.rack={mode}")
    assert (1, 1) == (ended.code, len(ended.err.splitlines()))
    assert part in ended.err
    assert "kraft.log" in ended.err
    cluster = read_cluster(away / "kraft-data")
    assert [None, None, None] == [node_process.running_pid(node) for node in cluster.nodes]


def test_a_node_that_dies_later_does_not_take_the_others_with_it(kraft, away):
    up(kraft, "-n", "3")
    kraft("down")
    ended = kraft("up", "--set", "broker.rack=dies@1")
    assert 1 == ended.code
    assert "node 1 did not start: the disk is full" in ended.err
    cluster = read_cluster(away / "kraft-data")
    assert [True, False, False] == [node_process.running_pid(node) is None for node in cluster.nodes]


def test_nodes_that_never_get_ready_are_told_with_their_reasons(kraft):
    for timeout_s in ("0.5", "2", "8", "30"):
        ended = kraft("up", "--any-port", "--timeout", timeout_s, "--set", "broker.rack=slow")
        assert 5 == ended.code
        if "its HTTP port does not answer yet" not in ended.err:  # the machine was quick enough
            break
    assert "node 1 waits: the metadata is not caught up" in ended.err


def test_a_node_that_does_not_stop_is_killed_and_that_is_said(kraft):
    found = up(kraft, "--set", "broker.rack=stubborn")
    ended = kraft("down", "--timeout", "2", "--format", "json")
    assert 0 == ended.code
    assert {"stopped": [], "killed": [1]} == json.loads(ended.out)
    assert "had to be killed" in ended.err
    assert node_process.process_identity(pids(found)[0]) is None


def test_a_pid_that_is_somebody_elses_now_is_never_signalled(kraft, away):
    up(kraft)
    node = read_cluster(away / "kraft-data").nodes[0]
    kraft("down")
    with subprocess.Popen([sys.executable, "-c", "input()", str(node.config_file)], stdin=subprocess.PIPE) as stranger:
        node.pid_file.write_text(f"{stranger.pid} 1\n")
        assert node_process.running_pid(node) is None
        assert "No node was running." in kraft("down").out
        assert stranger.poll() is None
        started = node_process.process_identity(os.getpid()).started
        node.pid_file.write_text(f"{os.getpid()} {started}\n")
        assert node_process.running_pid(node) is None
        node.pid_file.write_text("not a pid\n")
        assert node_process.running_pid(node) is None
        stranger.communicate(b"\n")


def test_status_tells_what_runs_and_ends_with_5_when_not_all_do(kraft):
    found = up(kraft, "-n", "2")
    assert 0 == kraft("status").code
    os.kill(pids(found)[1], signal.SIGKILL)
    while node_process.process_identity(pids(found)[1]) is not None:
        time.sleep(0.01)  # sleeps: the system tells nobody but the parent that a process has ended
    ended = kraft("status", "--format", "json")
    assert 5 == ended.code
    assert ["ready", "down"] == [node["state"] for node in json.loads(ended.out)["nodes"]]
    assert "kraft: node 2 is down: kraft up\n" == ended.err
    lines = kraft("status").out.splitlines()
    assert ["NOT WELL: 1 of 2 nodes ready, node 1 leads", "  - node 2 is down: kraft up", ""] == lines[:3]
    assert ["NODE", "STATE", "ROLE", "LEADS", "IN", "SYNC", "BEHIND", "PID", "HTTP"] == lines[3].split()


@pytest.fixture
def answering(monkeypatch, cluster):
    """The nodes' processes are real, what they know of the cluster is the fake cluster's."""
    monkeypatch.setattr("cli.status.Server", lambda *_: parse_server(cluster.address))
    monkeypatch.setattr("cli.leaving.Server", lambda *_: parse_server(cluster.address))
    return cluster.replication


def test_status_says_first_whether_all_is_well(kraft, answering):
    up(kraft, "-n", "3")
    answering.brokers.pop(4)
    answering.place("pay", (1, 2, 3), (2, 3, 1))
    ended = kraft("status")
    assert (0, "") == (ended.code, ended.err)
    lines = ended.out.splitlines()
    assert "All well: 3 of 3 nodes ready, node 1 leads" == lines[0]
    assert ["1", "ready", "leader", "1", "2", "of", "2", "0"] == lines[3].split()[:8]
    assert lines[-1].startswith("1 topic with 2 partitions.  Data: ./kraft-data")
    assert all(len(line) <= 80 for line in lines)


def test_status_names_what_is_in_trouble_the_worst_first(kraft, answering):
    up(kraft, "-n", "3")
    answering.place("pay", (1, 2, 3), (2, 3, 1), (3, 1, 2))
    answering.placement["pay", 0]["in_sync_replica_ids"] = [1, 3]
    answering.placement["pay", 2] |= {"in_sync_replica_ids": [], "leader_id": None}
    answering.reasons = ["1 partition (pay-2) has no leader: waiting for any of the brokers [3], start them"]
    answering.brokers[2] |= {"lag_offsets_total": 1234}
    answering.add_broker(4, is_fenced=True)
    ended = kraft("status")
    assert (5, "") == (ended.code, ended.err)
    lines = ended.out.splitlines()
    assert lines[0].startswith("NOT WELL: 3 of 4 nodes ready, node 1 leads, 1 partition without a leader, ")
    assert "  - 1 partition (pay-2) has no leader: waiting for any of the brokers [3], start them" == lines[1]
    assert "1,234" in lines[5]
    assert ["4", "fenced", "observer"] == lines[7].split()[:3]
    assert ["pay-2", "pay-0"] == [line.split()[0] for line in lines if line.startswith("pay-")]
    document = json.loads(kraft("status", "--format", "json").out)
    assert (False, 2) == (document["healthy"], len(document["troubled_partitions"]))
    assert [True, True, True, False] == [node["is_local"] for node in document["nodes"]]


def test_status_of_a_cluster_that_can_not_be_asked_still_tells_what_runs(kraft, cluster, answering):
    up(kraft)
    unavailable = {"error_code": 50003, "message": "no leader yet"}
    cluster.rules.append(lambda *_: (503, unavailable))
    ended = kraft("status", "--timeout", "2")
    assert (5, ["NOT WELL: 1 of 1 node ready, the quorum has no leader", "  - no leader yet"]) == (
        ended.code,
        ended.out.splitlines()[:2],
    )


def test_a_node_that_was_added_is_taken_out_again_when_it_is_empty(kraft, away, answering):
    up(kraft, "-n", "3")
    up(kraft, "--add", "1")
    answering.place("pay", (4, 2, 3), (1, 2, 3))
    folder = away / "kraft-data" / "node-4"
    answering.refused["pay", 0] = "not now"
    assert 1 == kraft("down", "--node", "4", "--remove").code
    assert folder.exists()
    answering.refused.clear()
    monitor = answering.brokers[4]
    monitor["is_fenced"] = True  # as the controller does when the node is stopped
    ended = kraft("down", "--node", "4", "--remove", "--format", "json")
    assert (0, {"removed": [4]}) == (ended.code, json.loads(ended.out))
    assert [(1, 2, 3)] * 2 == sorted(tuple(sorted(row["replica_ids"])) for row in answering.rows())
    assert 4 not in answering.brokers
    assert not folder.exists()
    assert [1, 2, 3] == [node.node_id for node in read_cluster(away / "kraft-data").nodes]


def test_a_voter_is_not_taken_out(kraft, answering):
    up(kraft, "-n", "3")
    ended = kraft("down", "--node", "2", "--remove")
    assert (4, True) == (ended.code, "node 2 is in the metadata quorum" in ended.err)
    assert 2 == kraft("down", "--remove").code


def test_only_a_folder_that_is_ours_is_purged_and_only_when_asked(kraft, away):
    (away / "other").mkdir()
    (away / "other" / "thesis.txt").touch()
    assert 3 == kraft("purge", "-y", "--data-dir", "other").code
    assert 4 == kraft("up", "--any-port", "--data-dir", "other").code
    up(kraft)
    assert 4 == kraft("purge", "-y").code
    kraft("down")
    ended = kraft("purge")
    assert 1 == ended.code
    assert "say -y" in ended.err
    (away / "kraft-data" / "note.txt").write_text("mine")
    assert 0 == kraft("purge", "-y").code
    assert ["note.txt"] == [entry.name for entry in (away / "kraft-data").iterdir()]
    assert (away / "other" / "thesis.txt").exists()


def test_fresh_begins_anew_but_never_under_running_nodes(kraft):
    before = up(kraft)
    assert 4 == kraft("up", "--fresh").code
    kraft("down")
    assert before["cluster_id"] != up(kraft, "--fresh")["cluster_id"]


def test_two_commands_at_once_do_not_start_a_node_twice(kraft, away):
    (away / "kraft-data").mkdir()
    with exclusive(away / "kraft-data"):
        ended = kraft("up", "--any-port")
    assert 4 == ended.code
    assert "another kraft up" in ended.err


def test_an_interrupted_formation_is_done_again(kraft, away):
    up(kraft, "-n", "2")
    kraft("down")
    for node_id in (1, 2):
        for name in ("metadata/journal", "metadata", "meta.properties"):
            path = away / "kraft-data" / f"node-{node_id}" / name
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    up(kraft)
    assert read_meta_properties(away / "kraft-data" / "node-2") is not None


def test_a_voter_that_lost_its_folder_is_not_formatted_silently(kraft, away):
    up(kraft, "-n", "3")
    kraft("down")
    folder = away / "kraft-data" / "node-2"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    ended = kraft("up")
    assert 1 == ended.code
    assert f"kraft node -c {folder}/server.properties --format" in ended.err
    assert not (folder / "meta.properties").exists()


def test_a_damaged_cluster_file_is_told(kraft, away):
    up(kraft)
    kraft("down")
    file = away / "kraft-data" / "cluster.json"
    whole = file.read_text()
    file.write_text(whole[:20])
    assert "cluster.json is damaged" in kraft("status").err
    file.write_text(whole)


def test_commands_find_the_local_cluster_by_themselves(kraft):
    found = up(kraft, "-n", "2")
    assert [node["http"] for node in found["nodes"]] == [f"http://{server}" for server in servers(Invocation())]
    kraft("down")
    kraft("purge", "-y")
    assert ["127.0.0.1:8082"] == [str(server) for server in servers(Invocation())]


def test_ports_are_kafkas_and_ten_apart():
    assert (8082, 9092, 9093) == usual_ports(1)
    assert (8102, 9112, 9113) == usual_ports(3)
    assert 8102 == usual_http_port(9112) == usual_http_port(9113)
    assert usual_http_port(8082) is None


def test_free_ports_are_free_and_different():
    ports = free_ports(30)
    assert 30 == len(set(ports))
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
        assert f"(pid {os.getpid()})" in (holder_of(ports[0]) or "")
    assert holder_of(ports[1]) is None
