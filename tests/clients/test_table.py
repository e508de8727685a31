"""The page about clients says something about each of them and each feature, and nothing that is not tested."""

from pathlib import Path

import pytest

from tests.clients.compatibility_table import BEGIN, END, Outcome, Results, read_page, read_results, render, write_page
from tests.clients.features import CLIENTS, FEATURES

PAGE = Path(__file__).parents[2] / "docs" / "kafka-compatibility.md"
FOLDER = Path(__file__).parent


def test_the_page_has_every_client_and_every_feature():
    told = read_page(PAGE.read_text(encoding="utf-8"))
    assert {(client, row) for client in CLIENTS for row in FEATURES.values()} == set(told)


def test_the_page_is_of_a_whole_run():
    told = read_page(PAGE.read_text(encoding="utf-8"))
    assert set() == {cell for cell, verdict in told.items() if not verdict.startswith(("yes", "no", "- ("))}


def test_every_feature_has_a_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("test_*.py"))
    for key in FEATURES:
        first, _, rest = key.partition(" ")
        assert f'feature("{key}")' in tests or f'feature("{first} {{' in tests, (key, rest)


def test_a_written_page_is_read_as_it_was_meant(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nAfter\n")
    outcomes = {
        ("kcat", "topics"): Outcome("cannot", "has no administration"),
        ("java", "topics"): Outcome("yes", ""),
        ("java", "acks 1"): Outcome("no", ""),
    }
    for _ in range(2):
        write_page(page, Results({"java": "4.3.0"}, outcomes))
    told = read_page(page.read_text())
    assert "- (1)" == told["kcat", FEATURES["topics"]]
    assert "yes" == told["java", FEATURES["topics"]]
    assert "no" == told["java", FEATURES["acks 1"]]
    assert "not run" == told["aiokafka", FEATURES["topics"]]
    assert page.read_text().startswith("# Before\n")
    assert page.read_text().endswith("After\n")
    assert "1. kcat: has no administration" in render(Results({}, outcomes))


def test_what_was_not_run_keeps_what_an_earlier_run_has_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    earlier = {("kcat", "topics"): Outcome("cannot", "has: nothing"), ("java", "topics"): Outcome("no", "")}
    write_page(page, Results({"java": "4.3.0", "kcat": "1.7.1"}, earlier))
    write_page(page, Results({"java": "4.4.0"}, {("java", "topics"): Outcome("yes", "")}))
    now = read_results(page.read_text())
    assert {"java": "4.4.0", "kcat": "1.7.1"} == {client: one for client, one in now.versions.items() if one}
    assert Outcome("cannot", "has: nothing") == now.outcomes["kcat", "topics"]
    assert Outcome("yes", "") == now.outcomes["java", "topics"]


def test_a_page_without_its_markers_is_not_taken_for_one():
    with pytest.raises(ValueError, match="markers"):
        read_page("| a | b |")
