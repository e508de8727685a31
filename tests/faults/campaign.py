"""Minutes of faults on real processes, judged by the checker: what `scripts/faults` runs.

--minutes N         how long; rounds of a few cycles each, every round a topic of its own
--seed N            draws the same kinds of faults in the same order, at the same kinds of victims, for as long
                    (processes and clocks make each run another one)
--only a,b          these kinds of faults: see --list
--nodes 3|5         how many; a topic has three replicas
--network KIND      between the nodes: namespaces (faults on packets) or proxies (on bytes, without any privilege);
                    without it namespaces where they can be had
--append            a line for this campaign into the record that docs/reliability.md is made of
--keep FOLDER       put the nodes' folders and histories there and leave them; without it they go, unless something
                    was found
"""

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults import fault_kinds, network_choice
from tests.faults.battlefield import Battlefield, calls_can_fail
from tests.faults.campaign_table import append_line
from tests.faults.checker import Violation
from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.fault_kinds import KINDS, NOTHING, Strike
from tests.faults.harness import HEALED_S, Deadline, wait_until
from tests.faults.history import save
from tests.faults.judgement import Judgement, judge
from tests.faults.namespaces import NoNamespacesError
from tests.faults.network_choice import Choice
from tests.faults.own_namespace import bring_loopback_up
from tests.faults.replicated_workload import ReplicatedWorkload
from tests.faults.tally import ALL, Cycle, Tally

PARTITIONS = 6
CYCLES_A_ROUND = 6
STRIKE_S = (0.3, 8.0)
QUIET_RECORDS = (50, 600)
VIOLATIONS_SHOWN = 12
THINK_S = 0.01


@dataclass(slots=True)
class Campaign:
    """One cluster, one seed; what was proven so far is there also where something was found."""

    field: Battlefield
    names: list[str]
    seed: int
    directory: Path
    tally: Tally = dataclasses.field(default_factory=Tally)
    told: Counter[str] = dataclasses.field(default_factory=Counter)
    found: list[Violation] = dataclasses.field(default_factory=list)
    cycles: int = 0
    ran_minutes: float = 0.0

    def run(self, minutes: float) -> None:
        """What goes wrong ends it, and is found."""
        began_s = time.monotonic()
        number = 0
        try:
            while time.monotonic() < began_s + 60 * minutes and not self.found:
                self._round(number, began_s + 60 * minutes)
                number += 1
        except Exception as error:  # noqa: BLE001 - whatever it is: it is told with the table
            traceback.print_exc()
            self.found.append(Violation(type(error).__name__, "-", str(error)))
        finally:
            self.ran_minutes = (time.monotonic() - began_s) / 60
        self.found += self.tally.found_outside()

    # --- one round ----------------------------------------------------------------------------------------------------

    def _round(self, number: int, end_s: float) -> None:
        """It is judged in whatever state it ends."""
        topic, chance = f"round-{number}", random.Random(f"{self.seed} round {number}")
        configs = {"min.insync.replicas": "2", "segment.bytes": chance.choice(("65536", "1073741824"))}
        create(self.field, topic, configs)
        workload = ReplicatedWorkload(self.field.nodes, topic, PARTITIONS, chance)
        workload.think_s = THINK_S
        workload.start(producers=2, pollers=1)
        workload.start_replicated(idempotent=2, kafka=1, consumers=1)
        cycles: list[Cycle] = []
        judgement = Judgement()
        try:
            with judgement.attempt():
                while len(cycles) < CYCLES_A_ROUND and (not cycles or time.monotonic() < end_s):
                    self._cycle(topic, workload, cycles)
                workload.wait_for_more(PARTITIONS)
            if judgement.failures:
                for mend in (self.field.heal, self.field.begin_dead):
                    with judgement.attempt():
                        mend()
            judge(judgement, self.field.cluster, topic, PARTITIONS, workload)
        except BaseException:  # interrupted: nobody waits for clients that wait for nodes
            workload.abandon()
            raise
        finally:
            self.found += judgement.violations
            self.tally.add(workload.history, cycles, judgement.violations, is_judged=judgement.is_judged)
            self.told["acknowledged without an offset"] += workload.placeless
            save(workload.history, self.directory / f"{topic}.jsonl")
        judgement.raise_first()
        if not self.found:
            delete(self.field, topic)
            (self.directory / f"{topic}.jsonl").unlink()

    def _cycle(self, topic: str, workload: ReplicatedWorkload, cycles: list[Cycle]) -> None:
        """Peace, one or several faults, their end, and the wait for L1.

        Its chance is its own: what a strike draws, which depends on what it meets, changes no other cycle.
        """
        chance = random.Random(f"{self.seed} cycle {self.cycles}")
        self.cycles += 1
        workload.wait_for_more(chance.randint(*QUIET_RECORDS), timeout_s=60)
        kinds, lasts_s = fault_kinds.choose(self.names, chance), chance.uniform(*STRIKE_S)
        victim = fault_kinds.draw_victim(self.field, topic, PARTITIONS, chance)
        strike = Strike(self.field, topic, victim, chance, workload.history)
        is_hit = kinds != [NOTHING] and bool(workload.in_flight) and strike.hits_a_leader
        now = time.strftime("%H:%M:%S")
        say(f"{now} {topic}: {' + '.join(kinds)} at node {victim.node_id} for {lasts_s:.1f} s")
        cycle = Cycle(tuple(kinds), time.monotonic(), is_hit)
        cycles.append(cycle)
        with contextlib.ExitStack() as faults:
            for kind in kinds:
                faults.enter_context(KINDS[kind](strike))
            time.sleep(lasts_s)  # sleeps: how long the faults are on is what the seed draws
        within = Deadline(HEALED_S)
        try:
            self._heal(topic, workload, within)
            cycle.ended_s = time.monotonic()
        finally:
            cycle.heal_s = within.passed_s
            self.told += strike.told
            self.told["calls that failed or were delayed"] = sum(calls.failures for calls in self.field.calls.values())

    def _heal(self, topic: str, workload: ReplicatedWorkload, within: Deadline) -> None:
        """L1, all of it by one deadline."""
        self.field.heal()
        self.field.start_dead(within)
        self.field.cluster.wait_well(topic, PARTITIONS, within)
        for partition in range(PARTITIONS):
            workload.wait_for_write(partition, within)


def create(field: Battlefield, topic: str, configs: dict[str, str]) -> None:
    def created() -> bool:
        with field.nodes[0].client() as client:
            made = client.create_topic(topic, PARTITIONS, configs, replication_factor=3)
            return made.topic_id is not None or topic in client.topics()

    wait_until(created, f"{topic} is created")
    field.cluster.wait_well(topic, PARTITIONS)


def delete(field: Battlefield, topic: str) -> None:
    """So that a long campaign does not fill the disk."""
    with contextlib.suppress(NotSentError, DoubtfulError), field.nodes[0].client() as client:
        client.request("DELETE", f"/v3/clusters/-/topics/{topic}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- the command -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", "--fault", metavar="KIND,KIND")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--network", choices=network_choice.KINDS)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="name the kinds and end")
    options = parser.parse_args()
    options.names = options.only.split(",") if options.only else list(KINDS)
    if unknown := set(options.names) - KINDS.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return options


def main() -> int:
    options = parse()
    if options.list:
        for name, kind in KINDS.items():
            say(f"{name:14} {(kind.__doc__ or '').partition(chr(10))[0]}")
        return 0
    bring_loopback_up()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started this ignores it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        network = network_choice.choose(options.network)
    except NoNamespacesError as error:
        say(f"--network namespaces: {error}")
        return 2
    options.network = network.kind
    seed = random.randrange(2**32) if options.seed is None else options.seed
    can_fail_calls = calls_can_fail()
    names = [name for name in options.names if can_fail_calls or not fault_kinds.needs_compiler(name)]
    again = f"scripts/faults --minutes {options.minutes:g} --seed {seed} --nodes {options.nodes}"
    again += f" --network {network.kind}"
    say(f"seed {seed} (again: {again}{f' --only {options.only}' if options.only else ''})")
    say(f"network between the nodes: {network.kind}: {network.why}")
    if len(names) < len(options.names):
        say(f"no C compiler here: without {', '.join(sorted(set(options.names) - set(names)))}")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="kraft-faults-"))
    directory.mkdir(parents=True, exist_ok=True)
    is_clean = False
    try:
        campaign = run(options, names, seed, directory, network)
        is_clean = not campaign.found
    except (KeyboardInterrupt, SystemExit):
        say("interrupted: nothing of it is left running")
        is_clean = True
        return 130
    finally:
        if is_clean and options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
        elif not is_clean:
            say(f"the nodes' folders, logs and histories: {directory}")
    if options.append:
        found = [violation.name for violation in campaign.found]
        append_line(campaign.tally, options, seed, campaign.ran_minutes, found)
    return int(bool(campaign.found))


def run(options: argparse.Namespace, names: list[str], seed: int, directory: Path, network: Choice) -> Campaign:
    field = Battlefield(
        directory / "cluster",
        options.nodes,
        seed,
        ("log.flush.offset.checkpoint.interval.ms=500",),
        with_journal=bool({"power", "power-all"} & set(names)),
        can_fail_calls=calls_can_fail(),
        lay=network.lay,
    )
    campaign = Campaign(field, names, seed, directory)
    try:
        campaign.run(options.minutes)
    finally:
        field.close()
        show(campaign)
    return campaign


def show(campaign: Campaign) -> None:
    tally = campaign.tally
    say(f"\n{tally.table()}\n")
    cycles = tally.rows[ALL].cycles
    say(
        f"{tally.records:,} records acknowledged; {tally.hit_leader} of {cycles} cycles hit a leader or the controller "
        f"with requests in flight; outside of faults {tally.outside_share:.1%} of requests were acknowledged; "
        f"{campaign.ran_minutes:.1f} minutes"
    )
    if tally.unjudged:
        say(f"{tally.unjudged:,} requests of rounds that could not be judged as a whole are not counted above")
    for what, count in sorted((+campaign.told).items()):
        say(f"  {count} x {what}")
    for violation in campaign.found[:VIOLATIONS_SHOWN]:
        say(f"FOUND {violation.name} in {violation.partition}: {violation.what}")
    if len(campaign.found) > VIOLATIONS_SHOWN:
        say(f"... and {len(campaign.found) - VIOLATIONS_SHOWN} more")


def leave(code: int) -> None:
    """Everything is closed by now; clients that were abandoned are not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        leave(main())
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 2)
