"""What simulated runs leave in the committed proof: a line a campaign, a line a hunt, and their two tables."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests import proof
from tests.simulation.mutants import Hunt
from tests.simulation.run import Ran

RECORD: Final = "simulation"
MUTANTS_RECORD: Final = "mutants"
CAMPAIGNS_HEAD: Final = (
    "commit", "seeds", "which (`--seeds`)", "acknowledged sends (of the median run)", "faults (median)",
    "changes of leaders (median)", "events/s", "found",
)  # fmt: skip
MUTANTS_HEAD: Final = ("mutant (`--mutants NAME`)", "the bug", "found by", "seeds", "seconds", "at")


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
            found.setdefault(ran.found.name, []).append(ran.seed)
    faults = [ran.faults.total() for ran in runs]
    return Campaign(
        commit=proof.commit(),
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


def append(campaign: Campaign) -> None:
    proof.add(RECORD, asdict(campaign))
    proof.show(RECORD, campaigns_table([Campaign(**one) for one in proof.lines(RECORD)]))


def append_hunt(hunt: Hunt) -> None:
    """The latest of each mutant is what the page shows."""
    one = {"commit": proof.commit(), "name": hunt.mutant.name, "what": hunt.mutant.what, "found_by": hunt.found_by}
    proof.add(MUTANTS_RECORD, one | {"seeds": hunt.seeds_run, "elapsed_s": round(hunt.elapsed_s, 1), "seed": hunt.seed})
    proof.show(MUTANTS_RECORD, mutants_table({one["name"]: one for one in proof.lines(MUTANTS_RECORD)}))


def mutants_table(hunts: dict[str, dict[str, Any]]) -> str:
    rows = []
    for one in hunts.values():
        found_by = "**nobody**" if one["seed"] is None else one["found_by"]
        rows.append((f"`{one['name']}`", one["what"], found_by, one["seeds"], one["elapsed_s"], one["commit"]))
    return proof.markdown(MUTANTS_HEAD, rows)


def campaigns_table(campaigns: list[Campaign]) -> str:
    """A row a commit, and one for all; each seed of a commit once, and a median is that of its campaigns'."""
    by_commit: dict[str, list[Campaign]] = defaultdict(list)
    for one in campaigns:
        by_commit[one.commit].append(one)
    rows = [_row(commit, ran) for commit, ran in by_commit.items()]
    total = Counter[str]()
    for one in campaigns:
        total.update(seeds=one.seeds, acknowledged=one.acknowledged, faults=one.faults, found=one.violations)
    all_of_them = ("all", f"{total['seeds']:,}", "", f"{total['acknowledged']:,}", f"{total['faults']:,}", "", "")
    return proof.markdown(CAMPAIGNS_HEAD, [*rows, (*all_of_them, total["found"])])


def _row(commit: str, ran: list[Campaign]) -> tuple[object, ...]:
    found = [f"{name}: {', '.join(map(str, seeds))}" for one in ran for name, seeds in sorted(one.found.items())]
    return (
        commit,
        f"{sum(one.seeds for one in ran):,}",
        ", ".join(f"{one.first_seed}:{one.first_seed + one.seeds}" for one in ran),
        f"{sum(one.acknowledged for one in ran):,} ({_median(ran, 'acknowledged_median'):,})",
        f"{sum(one.faults for one in ran):,} ({_median(ran, 'faults_median')})",
        _median(ran, "elections_median"),
        f"{sum(one.events for one in ran) / max(sum(one.cpu_s for one in ran), 0.1):,.0f}",
        "; ".join(found) or "nothing",
    )


def _median(ran: Iterable[Campaign], figure: str) -> int:
    return int(statistics.median(getattr(one, figure) for one in ran))
