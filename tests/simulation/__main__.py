"""`python -m tests.simulation --seed 7`: run one seed, or `--seeds 0:100`, and say what was found.

--seed N            one run; its events with -v, and always where something was found
--seeds A:B         many, one line each where something was found, and a summary
--append            with --seeds or --mutants: a line for each campaign or mutant into docs/proof/simulation.md
--shrink            where something is found: leave out the faults that it does not need, and say which
--without 3,joins-2 leave these faults out
--mutants           put in one bug after another, and say how soon each is found; or only those that are named
"""

import argparse
import gc
import sys
import time

from tests.simulation import mutants, table
from tests.simulation.run import Ran, name_of, run


def main() -> int:
    """0: nothing was found, or every mutant was."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", metavar="A:B")
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--without", default="", metavar="N,N")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--mutants", nargs="*", metavar="NAME")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if options.mutants is not None:
        return hunt_all(options.mutants, append=options.append)
    if options.seeds is not None:
        first, last = map(int, options.seeds.split(":"))
        return campaign(range(first, last), append=options.append, shrinks=options.shrink)
    without = frozenset(filter(None, options.without.split(",")))
    ran = run(options.seed or 0, without=without)
    if options.shrink and ran.found is not None:
        ran, without = shrink(ran, without)
    show(ran, without, verbose=options.verbose or ran.found is not None)
    return int(ran.found is not None)


def shrink(ran: Ran, without: frozenset[str]) -> tuple[Ran, frozenset[str]]:
    """As few faults as break the same promise: half of them left out at a time, then a quarter, down to each alone."""
    size = max(1, len(ran.fault_names) // 2)
    while True:
        names, at = ran.fault_names, 0
        while at < len(names):
            fewer = without | frozenset(names[at : at + size])
            smaller = run(ran.seed, without=fewer)
            if smaller.found is not None and name_of(smaller.found) == name_of(_found(ran)):
                ran, without, names = smaller, fewer, smaller.fault_names
            else:
                at += size
        if size == 1:
            return ran, without
        size //= 2


def _found(ran: Ran) -> BaseException:
    assert ran.found is not None
    return ran.found


def campaign(seeds: range, *, append: bool, shrinks: bool) -> int:
    started_s = time.process_time()
    runs = []
    for seed in seeds:
        ran = run(seed)
        if ran.found is not None:
            say(f"seed {seed}: {name_of(ran.found)}: {ran.found}")
            if shrinks:
                smaller, without = shrink(ran, frozenset())
                say(f"  {smaller.faults.total()} faults do it: {_command(smaller, without)}")
        ran.log = []
        runs.append(ran)
        gc.collect()
    told = table.campaign_of(runs, time.process_time() - started_s)
    say(
        f"{told.seeds} seeds, {told.violations} found something; a run (median): {told.acknowledged_median} "
        f"acknowledged sends, {told.faults_median} faults, {told.elections_median} elections; {told.cpu_s:.0f} s of "
        f"CPU, {told.cpu_s / told.seeds:.2f} s a run, {told.events / told.cpu_s:,.0f} events/s"
    )
    if append:
        table.append(told)
    return int(told.violations > 0)


def hunt_all(names: list[str], *, append: bool) -> int:
    survivors = 0
    for mutant in mutants.MUTANTS:
        if not names or mutant.name in names:
            hunt = mutants.hunt(mutant)
            survivors += hunt.seed is None
            say(str(hunt))
            if append:
                table.append_hunt(hunt)
    return int(survivors > 0)


def show(ran: Ran, without: frozenset[str], *, verbose: bool) -> None:
    if verbose:
        for line in ran.log:
            say(line)
    say(
        f"seed {ran.seed}: {ran.acknowledged} acknowledged sends, {ran.faults.total()} faults, {ran.elections} "
        f"elections, {ran.events} events, healed in {ran.healed_s:.1f} s, trace {ran.trace}"
    )
    say(f"answers {dict(ran.told)}; faults {dict(ran.faults)}")
    if ran.found is not None:
        say(f"FOUND {name_of(ran.found)}: {ran.found}")
        say(f"again: {_command(ran, without)}")


def _command(ran: Ran, without: frozenset[str]) -> str:
    left_out = f" --without {','.join(sorted(without))}" if without else ""
    return f"python -m tests.simulation --seed {ran.seed}{left_out}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
