"""The table of a campaign counts what was, kind by kind, and hides nothing."""

import argparse
import json
from dataclasses import replace

import pytest

from tests.faults.campaign_table import campaigns_table, kinds_table, line
from tests.faults.checker import Violation
from tests.faults.history import Outcome, Send
from tests.faults.tally import Cycle, Tally, longest_silence_s


def sent(at_s: float, outcome: Outcome = Outcome.ACKNOWLEDGED, partition: str = "t-0") -> Send:
    offsets = (int(at_s * 10),) if outcome is Outcome.ACKNOWLEDGED else ()
    return Send(partition, (f"{partition}/{at_s}",), at_s, at_s + 0.05, outcome, offsets)


HISTORY = [
    sent(0.1), sent(0.5), sent(1.2, Outcome.UNKNOWN), sent(1.3, Outcome.REFUSED), sent(1.4), sent(3.4), sent(5.0),
    sent(6.0, Outcome.REFUSED),
]  # fmt: skip
CYCLES = [Cycle(("kill", "loss"), 1.0, hit_leader=True, ended_s=3.0, heal_s=0.5)]


def test_what_overlaps_a_fault_counts_for_its_kinds_and_the_rest_as_quiet():
    tally = Tally()
    tally.add(HISTORY, CYCLES, [], is_judged=True)
    assert (1, 1, 1, 1) == (
        tally.rows["kill"].cycles,
        tally.rows["kill"].acknowledged,
        tally.rows["kill"].refused,
        tally.rows["loss"].unknown,
    )
    assert (5, 2, 1) == (tally.rows["all"].acknowledged, tally.rows["all"].refused, tally.rows["all"].unknown)
    assert 0.8 == tally.outside_share
    assert 1 == tally.hit_leader


def test_the_longest_silence_is_between_acknowledgements_that_touch_the_fault():
    assert 2.0 == round(longest_silence_s(HISTORY, 1.0, 3.0), 6)
    assert 0.0 == longest_silence_s([], 1.0, 3.0)


def test_a_violation_is_blamed_on_every_kind_of_its_round_and_shows_in_the_table():
    tally = Tally()
    found = [
        Violation("lost-write", "t-0", "..."),
        Violation("duplicate", "t-0", "..."),
        Violation("phantom", "t-0", ""),
    ]
    tally.add(HISTORY, CYCLES, found, is_judged=True)
    for name in ("kill", "loss", "all"):
        assert (1, 1, 1) == (tally.rows[name].lost, tally.rows[name].duplicated, tally.rows[name].diverged)
    lines = tally.table().splitlines()
    assert ["fault", "kill", "loss", "all"] == [text.split()[0] for text in lines]
    assert "2.0 s" in lines[-1]


def test_what_was_not_judged_is_in_no_row_and_is_counted_apart():
    tally = Tally()
    tally.add(HISTORY, CYCLES, [Violation("lost-write", "t-0", "...")], is_judged=False)
    for name in ("kill", "all"):
        row = tally.rows[name]
        assert (0, 0, 0, 1, 1) == (row.acknowledged, row.refused, row.unknown, row.lost, row.cycles)
    assert (len(HISTORY), 0) == (tally.unjudged, tally.records)
    assert 0.8 == tally.outside_share


def test_a_cycle_of_nothing_is_no_fault_hits_nobody_and_is_outside_of_faults():
    tally = Tally()
    tally.add(HISTORY, [Cycle(("nothing",), 1.0, hit_leader=True, ended_s=3.0, heal_s=0.5)], [], is_judged=True)
    assert (1, 1) == (tally.rows["nothing"].cycles, tally.rows["nothing"].acknowledged)
    total = tally.rows["all"]
    assert (0, 0.0, 0.0, 0) == (total.cycles, total.heal_s, total.unavailable_s, tally.hit_leader)
    assert len(HISTORY) == tally.outside.total()


def test_nothing_is_outside_of_a_fault_that_never_healed():
    tally = Tally()
    tally.add(HISTORY, [Cycle(("kill",), 1.0, hit_leader=True)], [], is_judged=False)
    assert 2 == tally.outside.total()


@pytest.mark.parametrize(("refused", "names"), [(2, []), (3, ["unavailable"])])
def test_less_than_half_acknowledged_outside_of_faults_is_found(refused, names):
    tally = Tally()
    tally.add([sent(1), sent(2), *(sent(3 + at, Outcome.REFUSED) for at in range(refused))], [], [], is_judged=True)
    assert names == [violation.name for violation in tally.found_outside()]
    assert refused / (2 + refused) == pytest.approx(1 - tally.outside_share)


def test_a_campaign_without_one_acknowledgement_outside_of_faults_says_so():
    tally = Tally()
    tally.add([sent(1, Outcome.REFUSED)], [], [], is_judged=True)
    options = argparse.Namespace(minutes=1.0, nodes=3, only=None, network="proxies")
    assert 0.0 == line(tally, options, 7, 1.0, [])["quiet"]
    assert ["unavailable"] == [violation.name for violation in tally.found_outside()]


def test_a_request_that_nobody_answered_by_its_time_out_is_found_outside_of_faults_only():
    waited = replace(sent(1.0, Outcome.UNKNOWN), ended_s=11.1)
    for cycles, names in (([], ["unanswered"]), (CYCLES, [])):
        tally = Tally()
        tally.add([sent(at) for at in range(9)] + [waited], cycles, [], is_judged=True)
        assert names == [violation.name for violation in tally.found_outside()]


def test_a_campaign_is_a_line_of_the_record_and_a_row_that_says_how_to_run_it_again():
    tally = Tally()
    tally.add(HISTORY, CYCLES, [], is_judged=True)
    options = argparse.Namespace(minutes=10.0, nodes=5, only="kill,loss", network="proxies")
    told = line(tally, options, 7, 4.26, []) | {"day": "2026-01-31", "commit": "abc1234"}
    assert (4.3, 10.0, 0) == (told["minutes"], told["asked_minutes"], told["unjudged"])
    row = campaigns_table([json.loads(json.dumps(told))]).splitlines()[-1]
    assert (
        "| 2026-01-31 | abc1234 | `--minutes 10 --seed 7 --nodes 5 --only kill,loss` | proxies | 1 | 1 | 5 | 2 | 1 "
        "| 0 | 0 | 0 | 2.0 | 0.5 | 80.0% | nothing |"
    ) == row


def test_campaigns_add_up_kind_by_kind():
    tally = Tally()
    tally.add(HISTORY, CYCLES, [Violation("lost-write", "t-0", "...")], is_judged=True)
    options = argparse.Namespace(minutes=10.0, nodes=3, network="proxies")
    both = [
        line(tally, argparse.Namespace(**vars(options), only=only), 7, minutes, ["lost-write"])
        for minutes, only in ((5.0, "kill"), (2.0, None))
    ]
    *table, _, mixed = kinds_table(both).splitlines()
    rows = {row.split("|")[1].strip(): row for row in table}
    assert "2 of the 7 minutes were of all kinds mixed." == mixed
    assert "| `kill` | 5 | 2 | 2 | 2 | 2 | 2 | 0 | 0 | 2.0 | 0.5 |" == rows["`kill`"]
    assert "| `loss` | 0 | 2 | 2 | 2 | 2 | 2 | 0 | 0 | 2.0 | 0.5 |" == rows["`loss`"]
    assert "| `all` | 7 | 2 | 10 | 4 | 2 | 2 | 0 | 0 | 2.0 | 0.5 |" == rows["`all`"]
