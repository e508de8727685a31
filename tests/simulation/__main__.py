"""`python -m tests.simulation --seed 7`: run one seed, or `--seeds 0:100`, and say what was found.

--seed N            one run; its events with -v, and always where something was found
--seeds A:B         many, one line each where something was found, and a summary
--jobs N            with --seeds: so many processes at a time; as many as there are processors, unless said
--append            with --seeds or --mutants: a line for each campaign or mutant into docs/reliability.md
--shrink            where something is found: leave out the faults that it does not need, and say which
--only-clocks       nothing goes wrong but wall clocks, and nobody may be fenced or elected, join or leave (S20)
--without 3,joins-2 leave these faults out
--mutants           put in one bug after another, and say how soon each is found, and by what; or only those named
"""

import argparse
import os
import sys

from tests.simulation import mutants, table
from tests.simulation.campaign import campaign, command, say, shrink
from tests.simulation.run import Ran, run


def main() -> int:
    """0: nothing was found, or every mutant was, by what may find it, but for those that other guards mask."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", metavar="A:B")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--only-clocks", action="store_true")
    parser.add_argument("--without", default="", metavar="N,N")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--mutants", nargs="*", metavar="NAME")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if options.mutants is not None:
        return hunt_all(options.mutants, append=options.append)
    if options.seeds is not None:
        first, last = map(int, options.seeds.split(":"))
        if options.append and options.only_clocks:
            parser.error("--append: the record is of runs with all faults")
        return campaign(
            range(first, last),
            jobs=options.jobs,
            append=options.append,
            shrinks=options.shrink,
            only_clocks=options.only_clocks,
        )
    without = frozenset(filter(None, options.without.split(",")))
    ran = run(options.seed or 0, without=without, only_clocks=options.only_clocks)
    if options.shrink and ran.found is not None:
        ran, without = shrink(ran, without)
    show(ran, without, verbose=options.verbose or ran.found is not None)
    return int(ran.found is not None)


def hunt_all(names: list[str], *, append: bool) -> int:
    failed = 0
    for mutant in mutants.MUTANTS:
        if not names or mutant.name in names:
            hunt = mutants.hunt(mutant)
            failed += hunt.has_failed
            say(str(hunt))
            if append:
                table.append_hunt(hunt)
    return int(failed > 0)


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
        say(f"FOUND {ran.found.trace if verbose else ran.found}")
        say(f"again: {command(ran, without)}")


if __name__ == "__main__":
    sys.exit(main())
