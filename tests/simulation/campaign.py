"""Many seeds over all processors, and the few faults that one of them needs.

A run is the same in whichever process; what a campaign tells does not depend on how many there are.
"""

import functools
import gc
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation import table
from tests.simulation.run import Ran, run


def campaign(seeds: range, *, jobs: int, append: bool, shrinks: bool, only_clocks: bool = False) -> int:
    """0: none of them found anything."""
    runs, cpu_s = [], 0.0
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for ran, took_s in pool.map(functools.partial(_one, shrinks=shrinks, only_clocks=only_clocks), seeds):
            runs.append(ran)
            cpu_s += took_s
    told = table.campaign_of(runs, cpu_s)
    found = f"{told.violations} found something" if told.violations else "nothing found, 0 lost"
    say(
        f"{told.seeds} seeds, {told.acknowledged:,} acknowledged sends, {told.faults:,} faults: {found}; "
        f"a run (median): {told.acknowledged_median} acknowledged sends, {told.faults_median} faults, "
        f"{told.elections_median} elections; {told.cpu_s:.0f} s of CPU, {told.cpu_s / told.seeds:.2f} s a run, "
        f"{told.events / told.cpu_s:,.0f} events/s"
    )
    if append:
        table.append(told)
    return int(told.violations > 0)


def _one(seed: int, *, shrinks: bool, only_clocks: bool) -> tuple[Ran, float]:
    """One of many, and the CPU that it took."""
    started_s = time.process_time()
    ran = run(seed, only_clocks=only_clocks)
    if ran.found is not None:
        say(f"seed {seed}: {ran.found}; again: {command(ran, frozenset())}")
        if shrinks:
            smaller, without = shrink(ran, frozenset())
            say(f"  {smaller.faults.total()} faults do it: {command(smaller, without)}")
    ran.log = []
    gc.collect()
    return ran, time.process_time() - started_s


def shrink(ran: Ran, without: frozenset[str]) -> tuple[Ran, frozenset[str]]:
    """As few faults as break the same promise: half of them left out at a time, then a quarter, down to each alone."""
    assert ran.found is not None
    broken = ran.found.name
    size = max(1, len(ran.fault_names) // 2)
    while True:
        names, at = ran.fault_names, 0
        while at < len(names):
            fewer = without | frozenset(names[at : at + size])
            smaller = run(ran.seed, without=fewer, only_clocks=ran.only_clocks)
            if smaller.found is not None and smaller.found.name == broken:
                ran, without, names = smaller, fewer, smaller.fault_names
            else:
                at += size
        if size == 1:
            return ran, without
        size //= 2


def command(ran: Ran, without: frozenset[str]) -> str:
    """Which runs it again."""
    left_out = f" --without {','.join(sorted(without))}" if without else ""
    only_clocks = " --only-clocks" if ran.only_clocks else ""
    return f"python -m tests.simulation --seed {ran.seed}{only_clocks}{left_out}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
