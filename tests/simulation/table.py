"""The committed record of simulated runs: one JSON line a campaign, and the page that is made of all of them.

`docs/proof/simulation.jsonl` is what counts; `docs/proof/simulation.md` is rendered from it, so that campaigns add up.
Seeds are told with the commit that they ran at: the same seed is another run where the code is another.
"""

import json
import statistics
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.simulation.run import Ran, name_of

PROJECT: Final = Path(__file__).resolve().parents[2]
RECORD: Final = PROJECT / "docs" / "proof" / "simulation.jsonl"
PAGE: Final = PROJECT / "docs" / "proof" / "simulation.md"
HEAD: Final = """# Simulated clusters

Whole nodes on a virtual clock, with a network, disks and faults that one seed draws; every promise checked at every
event. Each line is one campaign. A seed again: check out its commit, `python -m tests.simulation --seed N`; more
lines: `python -m tests.simulation --seeds A:B --append`. The numbers are of [simulation.jsonl](simulation.jsonl).
"""


@dataclass(frozen=True, slots=True)
class Campaign:
    """`found` maps an invariant, or an exception's name, to the seeds that found it; medians are of one run."""

    commit: str
    first_seed: int
    seeds: int
    found: dict[str, list[int]]
    acknowledged: int
    acknowledged_median: int
    faults: int
    faults_median: int
    elections_median: int
    events: int
    cpu_s: float

    @property
    def violations(self) -> int:
        return sum(map(len, self.found.values()))


def campaign_of(runs: list[Ran], cpu_s: float) -> Campaign:
    found: dict[str, list[int]] = {}
    for ran in runs:
        if ran.found is not None:
            found.setdefault(name_of(ran.found), []).append(ran.seed)
    faults = [ran.faults.total() for ran in runs]
    return Campaign(
        commit=_commit(),
        first_seed=runs[0].seed,
        seeds=len(runs),
        found=found,
        acknowledged=sum(ran.acknowledged for ran in runs),
        acknowledged_median=int(statistics.median(ran.acknowledged for ran in runs)),
        faults=sum(faults),
        faults_median=int(statistics.median(faults)),
        elections_median=int(statistics.median(ran.elections for ran in runs)),
        events=sum(ran.events for ran in runs),
        cpu_s=round(cpu_s, 1),
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def append(campaign: Campaign) -> None:
    RECORD.parent.mkdir(exist_ok=True)
    with RECORD.open("a") as record:
        record.write(json.dumps(asdict(campaign)) + "\n")
    PAGE.write_text(render([Campaign(**json.loads(line)) for line in RECORD.read_text().splitlines()]))


def render(campaigns: list[Campaign]) -> str:
    lines = [
        HEAD,
        "| commit | seeds | acknowledged sends (median) | faults (median) | elections (median) | events/s | found |",
        "|---|---|---|---|---|---|---|",
    ]
    totals = Counter[str]()
    for one in campaigns:
        totals.update(seeds=one.seeds, acknowledged=one.acknowledged, faults=one.faults, found=one.violations)
        found = ", ".join(f"{name}: {', '.join(map(str, seeds))}" for name, seeds in sorted(one.found.items()))
        lines.append(
            f"| {one.commit} | {one.first_seed} to {one.first_seed + one.seeds - 1} "
            f"| {one.acknowledged:,} ({one.acknowledged_median:,}) | {one.faults:,} ({one.faults_median}) "
            f"| {one.elections_median} | {one.events / max(one.cpu_s, 0.1):,.0f} | {found or '0'} |"
        )
    lines.append(
        f"| all | {totals['seeds']:,} | {totals['acknowledged']:,} | {totals['faults']:,} | | | {totals['found']} |"
    )
    return "\n".join(lines) + "\n"
