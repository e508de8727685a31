"""Damage is done to the file that it names, and can be taken back."""

import random
from pathlib import Path

import pytest

from tests.faults.corruption import KINDS, corrupt


@pytest.fixture
def node(tmp_path: Path) -> Path:
    folder = tmp_path / "node-1"
    for name in (
        "data/pay-0.id/00000000000000000000.log",
        "data/pay-0.id/00000000000000000000.index",
        "data/pay-0.id/leader-epoch-checkpoint",
        "data/recovery-point-offset-checkpoint",
        "data/other-0.id/00000000000000000000.log",
        "metadata/journal",
        "meta.properties",
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.Random(name).randbytes(4000))
    return folder


def contents(node: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in node.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_one_file_of_the_topic_changes_and_comes_back(node: Path, kind: str, seed: int):
    before = contents(node)
    damage = corrupt(node, "pay", random.Random(seed), kind)
    after = contents(node)
    changed = [file for file in before if after.get(file) != before[file]]
    assert [damage.file] == changed
    assert kind == damage.kind
    damage.take_back()
    assert before == contents(node)
    damage.close()
    assert ["node-1"] == [path.name for path in node.parent.iterdir()]


def test_identity_and_other_topics_are_never_touched(node: Path):
    for seed in range(40):
        damage = corrupt(node, "pay", random.Random(seed))
        assert "other-0.id" != damage.file.parent.name
        assert "meta.properties" != damage.file.name
        damage.take_back()
        damage.close()
