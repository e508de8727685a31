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
from typing import Any, Final

from tests.simulation.mutants import Hunt
from tests.simulation.run import Ran, name_of

PROJECT: Final = Path(__file__).resolve().parents[2]
RECORD: Final = PROJECT / "docs" / "proof" / "simulation.jsonl"
PAGE: Final = PROJECT / "docs" / "proof" / "simulation.md"
MUTANTS_RECORD: Final = PROJECT / "docs" / "proof" / "mutants.jsonl"
MARK: Final = "<!-- From here on: python -m tests.simulation --append -->"
CAMPAIGNS_HEAD: Final = """
| commit | seeds | acknowledged sends (median) | faults (median) | elections (median) | events/s | found |
|---|---|---|---|---|---|---|
"""
MUTANTS_HEAD: Final = """
| mutant | the bug | found by | after seeds | seconds |
|---|---|---|---|---|
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
    _add(RECORD, asdict(campaign))
    rewrite()


def append_hunt(hunt: Hunt) -> None:
    """The latest of each mutant is what the page shows."""
    one = {"commit": _commit(), "name": hunt.mutant.name, "what": hunt.mutant.what, "found_by": hunt.found_by}
    _add(MUTANTS_RECORD, one | {"seeds": hunt.seeds_run, "elapsed_s": round(hunt.elapsed_s, 1), "seed": hunt.seed})
    rewrite()


def _add(record: Path, one: dict[str, Any]) -> None:
    record.parent.mkdir(exist_ok=True)
    with record.open("a") as file:
        file.write(json.dumps(one) + "\n")


def _read(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def rewrite() -> None:
    told, mark, _ = PAGE.read_text().partition(MARK)
    campaigns = render_campaigns([Campaign(**one) for one in _read(RECORD)])
    mutants = render_mutants({one["name"]: one for one in _read(MUTANTS_RECORD)})
    PAGE.write_text(f"{told}{mark}\n{campaigns}{mutants}")


def render_mutants(hunts: dict[str, dict[str, Any]]) -> str:
    lines = []
    for one in hunts.values():
        found_by = "**nobody**" if one["seed"] is None else one["found_by"]
        lines.append(f"| `{one['name']}` | {one['what']} | {found_by} | {one['seeds']} | {one['elapsed_s']} |")
    return MUTANTS_HEAD + "\n".join(lines) + "\n"


def render_campaigns(campaigns: list[Campaign]) -> str:
    lines = []
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
    return CAMPAIGNS_HEAD + "\n".join(lines) + "\n"
