"""A broker that comes to a running cluster learns what it must know, keeps it, and never joins the wrong one."""

import uuid

import pytest

from broker.config import load_config
from broker.meta_properties import MetaProperties, new_cluster_id, write_meta_properties


@pytest.fixture
def replication(cluster):
    return cluster.replication


@pytest.fixture
def executed(monkeypatch):
    found = []
    monkeypatch.setattr("cli.node.os.execv", lambda _, arguments: found.append(arguments[4:]))
    return found


def lines(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_a_file_is_written_with_all_that_the_node_must_know(kraft, cluster, replication, executed, away):
    ended = kraft("node", "-c", "n5/node.properties", "--join", cluster.address)
    assert 0 == ended.code, ended.err
    file = away / "n5" / "node.properties"
    assert [["-c", str(file), "--format-directory"]] == executed
    config, warnings = load_config(file, {}, [])
    assert [] == warnings
    assert (5, replication.cluster_id, {1: ("127.0.0.1", 9093)}) == (config.node_id, config.cluster_id, config.voters)
    assert ("127.0.0.1", 9133) == config.peer_listener
    assert not config.is_voter
    assert (away / "n5" / "data",) == config.log_directories
    assert "no topic yet to learn min.insync.replicas" in ended.err


def test_what_is_set_is_kept_in_the_file_that_is_written(kraft, cluster, executed, away):
    given = ("--set", "node.id=9", "--set", "http.listeners=http://127.0.0.1:9999", "--set", "broker.rack=b")
    assert 0 == kraft("node", "-c", "node.properties", "--join", cluster.address, *given).code
    assert {"node.id=9", "http.listeners=http://127.0.0.1:9999", "broker.rack=b"} <= set(
        lines(away / "node.properties")
    )
    assert "--set" not in executed[0]


def test_the_defaults_by_which_leaders_act_are_learned(kraft, cluster, executed, away):
    cluster.add_topic("a", 1)
    synonyms = [{"value": "2", "source": "STATIC_BROKER_CONFIG"}, {"value": "1", "source": "DEFAULT_CONFIG"}]
    config = {"name": "min.insync.replicas", "value": "3", "synonyms": synonyms}
    cluster.rules.append(lambda _, target: (200, {"data": [config]}) if target.endswith("/a/configs") else None)
    assert 0 == kraft("node", "-c", "node.properties", "--join", cluster.address).code
    assert "min.insync.replicas=2" in lines(away / "node.properties")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("node.properties", "node.id=7\npeer.listeners=127.0.0.1:7003\nnode.directory=here"),
        ("node.toml", '[node]\nid = 7\ndirectory = "here"\n[peer]\nlisteners = "127.0.0.1:7003"\n'),
    ],
)
def test_a_file_that_is_there_gets_only_what_it_lacks(kraft, cluster, replication, executed, away, name, text):
    (away / name).write_text(text)
    for _ in range(2):
        assert 0 == kraft("node", "-c", name, "--join", cluster.address, "--set", "num.partitions=3").code
    assert ["-c", str(away / name), "--set", "num.partitions=3", "--format-directory"] == executed[1]
    config, _ = load_config(away / name, {}, [])
    assert (7, replication.cluster_id) == (config.node_id, config.cluster_id)
    assert 1 == (away / name).read_text().count("controller.quorum.voters")
    assert "num.partitions" not in (away / name).read_text()


def test_the_wrong_cluster_is_refused_and_nothing_is_written(kraft, cluster, replication, executed, away):
    file = away / "node.properties"
    file.write_text(f"cluster.id={new_cluster_id()}\nnode.id=7\npeer.listeners=127.0.0.1:7003\n")
    before = file.read_text()
    ended = kraft("node", "-c", file.name, "--join", cluster.address)
    assert (4, True) == (ended.code, "but the cluster that answers is" in ended.err)
    file.write_text("node.id=7\npeer.listeners=127.0.0.1:7003\ncontroller.quorum.voters=1@10.0.0.1:9093\n")
    assert 4 == kraft("node", "-c", file.name, "--join", cluster.address).code
    write_meta_properties(away, MetaProperties(new_cluster_id(), 7, uuid.uuid4()))
    file.write_text(before.split("\n", 1)[1] + "node.directory=.\n")
    ended = kraft("node", "-c", file.name, "--join", cluster.address)
    assert (4, True) == (ended.code, "belongs to cluster" in ended.err)
    assert "controller.quorum.voters" not in file.read_text()
    assert [] == executed


def test_a_voter_and_the_id_of_a_broker_in_service_are_refused(kraft, cluster, replication, executed):
    ended = kraft("node", "-c", "node.properties", "--join", cluster.address, "--set", "node.id=1")
    assert (4, True) == (ended.code, "node 1 is a voter" in ended.err)
    ended = kraft("node", "-c", "node.properties", "--join", cluster.address, "--set", "node.id=3")
    assert (4, True) == (ended.code, "broker 3 is in service already" in ended.err)
    replication.brokers[3]["is_fenced"] = True  # its disk was replaced: it comes back empty
    assert 0 == kraft("node", "-c", "node.properties", "--join", cluster.address, "--set", "node.id=3").code
    assert 1 == len(executed)


def test_a_cluster_that_listens_for_itself_only_is_told_to_other_machines(kraft, cluster, monkeypatch):
    monkeypatch.setattr("cli.join._own_address", lambda _: "10.0.0.4")
    ended = kraft("node", "-c", "node.properties", "--join", cluster.address)
    assert (4, True) == (ended.code, "which no other machine reaches" in ended.err)


def test_on_another_machine_the_listeners_are_where_the_cluster_can_reach_them(
    kraft, cluster, replication, executed, away, monkeypatch
):
    monkeypatch.setattr("cli.join._own_address", lambda _: "10.0.0.4")
    replication.voters = {1: ("10.0.0.1", 9093)}
    ended = kraft("node", "-c", "node.properties", "--join", cluster.address)
    assert (2, True) == (ended.code, "--insecure-listeners" in ended.err)
    assert not (away / "node.properties").exists()
    ended = kraft("node", "-c", "node.properties", "--join", cluster.address, "--insecure-listeners")
    assert 0 == ended.code, ended.err
    expected = {"http://10.0.0.4:8082", "PLAINTEXT://10.0.0.4:9092", "10.0.0.4:9093"}
    assert expected <= {line.partition("=")[2] for line in lines(away / "node.properties")}


def test_a_node_that_has_joined_starts_also_while_nobody_answers(kraft, cluster, executed, away):
    assert 0 == kraft("node", "-c", "node.properties", "--join", cluster.address).code
    ended = kraft("node", "-c", "node.properties", "--join", "127.0.0.1:1")
    assert (0, True) == (ended.code, "starts with what it knows" in ended.err)
    assert 5 == kraft("node", "-c", "other.properties", "--join", "127.0.0.1:1").code
    assert 2 == kraft("node", "--join", cluster.address).code
    assert 2 == len(executed)
