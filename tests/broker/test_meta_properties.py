"""A data directory belongs to one node of one cluster, and nobody else can take it."""

import uuid

import pytest

from broker import meta_properties
from broker.config import ConfigError
from broker.meta_properties import (
    Formation,
    MetaProperties,
    check_meta_properties,
    forget_formation,
    format_directory,
    id_to_text,
    new_cluster_id,
    read_formation,
    read_meta_properties,
    write_formation,
    write_meta_properties,
)

CLUSTER = "5L6g3nShT-eMCtK--X86sw"
IDENTITY = MetaProperties(CLUSTER, 1, uuid.UUID(int=7))


def test_an_identity_survives_and_reads_as_kafkas_file(tmp_path):
    assert read_meta_properties(tmp_path) is None
    write_meta_properties(tmp_path, IDENTITY)
    assert IDENTITY == read_meta_properties(tmp_path)
    text = (tmp_path / "meta.properties").read_text(encoding="utf-8")
    assert f"version=1\ncluster.id={CLUSTER}\nnode.id=1\ndirectory.id={id_to_text(IDENTITY.directory_id)}\n" in text


def test_a_formatted_directory_is_never_formatted_over(tmp_path):
    write_meta_properties(tmp_path, IDENTITY)
    write_meta_properties(tmp_path, IDENTITY)
    with pytest.raises(ConfigError, match="already formatted for node 1"):
        write_meta_properties(tmp_path, MetaProperties(CLUSTER, 2, uuid.uuid4()))


def test_a_directory_of_another_node_or_cluster_is_refused(tmp_path):
    check_meta_properties(tmp_path, IDENTITY, node_id=1, cluster_id=None)
    check_meta_properties(tmp_path, IDENTITY, node_id=1, cluster_id=CLUSTER)
    with pytest.raises(ConfigError, match=r"belongs to node 1, but node\.id is 2"):
        check_meta_properties(tmp_path, IDENTITY, node_id=2, cluster_id=None)
    with pytest.raises(ConfigError, match="belongs to cluster"):
        check_meta_properties(tmp_path, IDENTITY, node_id=1, cluster_id=new_cluster_id())


def test_the_first_voters_know_each_others_directories_until_the_quorum_does(tmp_path):
    voters = {1: uuid.uuid4(), 2: uuid.uuid4(), 3: uuid.uuid4()}
    assert read_formation(tmp_path) is None
    identity = format_directory(tmp_path / "node", cluster_id=CLUSTER, node_id=2, voter_directories=voters)
    assert MetaProperties(CLUSTER, 2, voters[2]) == identity
    assert Formation(CLUSTER, voters) == read_formation(tmp_path / "node")
    forget_formation(tmp_path / "node")
    assert read_formation(tmp_path / "node") is None
    forget_formation(tmp_path / "node")


def test_a_node_without_a_vote_gets_a_directory_id_of_its_own(tmp_path):
    voters = {1: uuid.uuid4()}
    identity = format_directory(tmp_path, cluster_id=CLUSTER, node_id=2, voter_directories=voters)
    assert identity.directory_id not in voters.values()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cluster.id is missing|node.id is missing"),
        ("version=9\n", "written by another release"),
        (f"cluster.id={CLUSTER}\nnode.id=x\n", "no whole number"),
        (f"cluster.id={CLUSTER}\nnode.id=1\ndirectory.id=short\n", "22 characters"),
        ("\0\0\0\0", "expected key=value"),
    ],
)
def test_a_damaged_file_is_named_and_never_guessed(tmp_path, text, part):
    (tmp_path / "meta.properties").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=part) as caught:
        read_meta_properties(tmp_path)
    assert "meta.properties" in str(caught.value)


def test_a_formation_without_voters_is_damage(tmp_path):
    (tmp_path / "formation.properties").write_text(f"cluster.id={CLUSTER}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names no voter"):
        read_formation(tmp_path)


def test_a_crash_before_the_rename_leaves_the_old_identity(tmp_path, monkeypatch):
    write_meta_properties(tmp_path, IDENTITY)

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr(meta_properties.os, "fsync", crash)
    with pytest.raises(OSError, match="power cut"):
        write_formation(tmp_path, Formation(CLUSTER, {1: IDENTITY.directory_id}))
    assert IDENTITY == read_meta_properties(tmp_path)
    assert read_formation(tmp_path) is None


def test_a_cluster_id_is_kafkas_22_characters_and_no_option():
    for _ in range(200):
        assert 22 == len(cluster_id := new_cluster_id())
        assert not cluster_id.startswith("-")
