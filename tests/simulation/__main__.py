"""`python -m tests.simulation --seed 7`: run one seed, or `--seeds 0:100`, and say what was found.

--seed N            one run; its events with -v, and always where something was found
--seeds A:B         many, one line each where something was found, and a summary
--shrink            with --seed: leave out one fault after another as long as the same promise breaks
--without 3,5       leave these faults out
"""

import argparse
import gc
import statistics
import sys
import time

from tests.broker.replication.model_checkers import ViolationError
from tests.simulation.run import Ran, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", metavar="A:B")
    parser.add_argument("--without", default="", metavar="N,N")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if options.seeds is not None:
        first, last = map(int, options.seeds.split(":"))
        return campaign(range(first, last))
    without = frozenset(filter(None, options.without.split(",")))
    ran = run(options.seed or 0, without=without)
    if options.shrink and ran.found is not None:
        ran = shrink(ran, without)
    show(ran, verbose=options.verbose or ran.found is not None)
    return int(ran.found is not None)


def name_of(found: BaseException | None) -> str:
    return found.name if isinstance(found, ViolationError) else type(found).__name__


def shrink(ran: Ran, without: frozenset[str]) -> Ran:
    """As few faults as break the same promise."""
    for number in range(1, 200):
        if number not in without:
            smaller = run(ran.seed, without=without | {number})
            if smaller.found is not None and name_of(smaller.found) == name_of(ran.found):
                ran, without = smaller, without | {number}
    say(f"left out: --without {','.join(map(str, sorted(without)))}")
    return ran


def campaign(seeds: range) -> int:
    started_s = time.perf_counter()
    all_ran = []
    for seed in seeds:
        ran = run(seed)
        ran.log = ran.log if ran.found is not None else []
        all_ran.append(ran)
        if ran.found is not None:
            say(f"seed {seed}: {name_of(ran.found)}: {ran.found}")
        gc.collect()
    elapsed_s = time.perf_counter() - started_s
    found = sum(ran.found is not None for ran in all_ran)
    median = statistics.median
    say(
        f"{len(all_ran)} seeds, {found} found something; a run (median): "
        f"{median(ran.acknowledged for ran in all_ran):.0f} acknowledged sends, "
        f"{median(sum(ran.faults.values()) for ran in all_ran):.0f} faults, "
        f"{median(ran.elections for ran in all_ran):.0f} elections, "
        f"healed in {median(ran.healed_s for ran in all_ran):.1f} s; "
        f"{sum(ran.events for ran in all_ran) / elapsed_s:,.0f} events/s, {elapsed_s / len(all_ran):.1f} s a run"
    )
    return int(found > 0)


def show(ran: Ran, *, verbose: bool) -> None:
    if verbose:
        for line in ran.log:
            say(line)
    say(
        f"seed {ran.seed}: {ran.acknowledged} acknowledged sends, {sum(ran.faults.values())} faults, {ran.elections} "
        f"elections, {ran.events} events, healed in {ran.healed_s:.1f} s, trace {ran.trace}"
    )
    say(f"answers {dict(ran.told)}; faults {dict(ran.faults)}")
    if ran.found is not None:
        say(f"FOUND {name_of(ran.found)}: {ran.found}")
        say(f"again: python -m tests.simulation --seed {ran.seed}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
