"""What goes wrong in a simulated cluster, drawn from the seed, and no more at a time than the promises allow.

A majority of the voters lives through every fault but the ones that hit all at once; a disk is only lost while another
replica is whole. Each fault has a name, an end, and a number by which a run can leave it out (`--without`): it draws
from a seed of its own, so that the others stay as they were.

Chance alone hardly meets the moments in which replication is in doubt. So some faults are directed: at a point that the
run has come to (`POINTS`) one of those whom it is about is struck. How often, a run draws once.
"""

import errno
from collections import Counter
from collections.abc import Callable, Collection
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING

from metadata.requests import DeleteTopicRequest, PartitionReassignment, ReassignPartitionsRequest
from tests.simulation.machine import Countdown
from tests.simulation.watch import Key
from wire.identifiers import uuid_to_text

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.virtual_loop import Life

FAILING = (
    ("fdatasync", ".log"), ("fdatasync", ".log"), ("fdatasync", ".log"), ("pwrite", ".log"), ("pwrite", "checkpoint"),
    ("rename", ""), ("rename", ".log"), ("fsync_directory", ""), ("truncate", ".log"),
)  # fmt: skip
DEADLY = ("", "", "", "checkpoint", "checkpoint", ".log", ".snapshot", ".deleted")
"""In writes to which files processes die."""
DERIVED = (".index", ".timeindex", ".snapshot")
TOO_LITTLE_BYTES = 32 << 20
"""Free on a disk that takes writes, and must be left to the metadata journal (`log.dir.reserved.bytes`)."""
SLOW_SYNC_S = (0.05, 0.4)
TOPIC_STAYS = 0.8
"""How often it is not deleted after all: what is deleted is checked no more, and most runs shall be about one topic."""

POINTS = (
    "wants change",  # the controller has taken a leader's change of the in-sync replicas; nothing is committed
    "joins",
    "leaves",
    "elected",
    "leads",  # a process has taken up its leadership
    "truncates",
    "syncs",
)
SELDOM = {"syncs": 0.01}
"""Points that a run comes to all the time: a strike at one of so many."""
DIRECTED = (0.0, 0.05, 0.2)
STRIKE_S = (0.0, 0.0, 0.0005, 0.005, 0.05)
"""How long after its point a directed fault comes."""


class Nemesis:
    """Strikes again and again until it is told to stop."""

    def __init__(self, cluster: "SimulatedCluster", *, without: frozenset[str] = frozenset()) -> None:
        self.cluster = cluster
        self.rng = Random(f"{cluster.seed} nemesis")
        self.told: Counter[str] = Counter()
        self.log: list[str] = []
        self.names: list[str] = []
        """Of all faults that there were, for `without`."""
        self.is_over = True
        self._without = without
        self._times = Random(f"{cluster.seed} times of faults")
        self._directed = self._times.choice(DIRECTED)
        self._seldom = Random(f"{cluster.seed} seldom")
        self._points: Counter[str] = Counter()
        self._number = 0
        self._faults: dict[str, Callable[[], str | None]] = {
            "kill": self._kill,
            "kill leader": self._kill_leader,
            "reboot": self._reboot,
            "power cut": self._cut_power,
            "power cut of all": self._cut_power_of_all,
            "death in a write": self._die_in_a_write,
            "pause": self._pause,
            "cut link": self._cut_link,
            "isolate": self._isolate,
            "slow network": self._slow_network,
            "reset connections": self._reset_connections,
            "slow disk": self._slow_disk,
            "disk error": self._fail_disk,
            "unreadable disk": self._fail_read,
            "short write": self._shorten_write,
            "disk full": self._fill_disk,
            "lost disk": self._lose_disk,
            "damaged index": self._damage_index,
            "bit rot": self._rot,
            "controller": self._replace_controller,
            "delete records": self._delete_records,
            "move": self._move,
            "delete topic": self._delete_topic,
            "clock": self._jump_clock,
            "last pair": self._strike_pair,
        }
        cluster.watch.on_point = self._at_point

    def begin(self) -> None:
        self.is_over = False
        self._later(self._times.uniform(0.2, 1.0), self._strike)

    def stop(self) -> None:
        self.is_over = True

    def _later(self, delay_s: float, event: Callable[[], object]) -> None:
        self.cluster.loop.call_later(delay_s, lambda: None if self.is_over else event(), context=Context())

    def _strike(self) -> None:
        self._number += 1
        name = str(self._number)
        kind = Random(f"{self.cluster.seed} fault {name}").choice(list(self._faults))
        self._commit(name, kind, self._faults[kind])
        self._later(self._times.uniform(0.1, 1.0), self._strike)

    def _commit(self, name: str, kind: str, fault: Callable[[], str | None]) -> None:
        if name in self._without:
            return
        self.rng = Random(f"{self.cluster.seed} what {name}")
        what = fault()
        if what is not None:
            self.told[kind] += 1
            self.names.append(name)
            self.log.append(f"{self.cluster.loop.time():9.4f} fault {name}: {kind} {what}")

    # ---- directed

    def _at_point(self, point: str, node_ids: Collection[int]) -> None:
        """The run has come to a point at which something is in doubt; it is about these nodes."""
        if self.is_over:
            return
        self._points[point] += 1
        if point in SELDOM and self._seldom.random() >= SELDOM[point]:
            return
        name = f"{point.replace(' ', '-')}-{self._points[point]}"
        rng = Random(f"{self.cluster.seed} fault {name}")
        if rng.random() < self._directed:
            victim = rng.choice(sorted(node_ids))
            for_s = rng.choice([0.001, 0.05, 1.2])
            if rng.random() < 0.25:  # in what it is just about to do
                self._commit(name, point, lambda: self._doom(victim, for_s))
                return
            how = rng.choice([self._kill_one, self._kill_one, self._cut_power_of, self._isolate_one, self._pause_one])
            self._later(rng.choice(STRIKE_S), lambda: self._commit(name, point, lambda: how(victim, for_s)))

    # ---- processes

    def _ready(self) -> list[int]:
        return [node_id for node_id, process in sorted(self.cluster.processes.items()) if process.is_ready]

    def _start_later(self, node_id: int, delay_s: float) -> None:
        self._later(delay_s, lambda: self.cluster.start(node_id))

    def _kill(self) -> str | None:
        return self._kill_one(self.rng.choice(self.cluster.node_ids), self.rng.choice([0.01, 0.2, 1.0, 3.0]))

    def _kill_one(self, node_id: int, down_s: float) -> str | None:
        if node_id not in self.cluster.processes:
            return None
        self.cluster.kill(node_id)
        self._start_later(node_id, down_s)
        return f"node {node_id} for {down_s} s"

    def _kill_leader(self) -> str | None:
        leaders = sorted({state.leader for state in self.cluster.states()} - {-1})
        return self._kill_one(self.rng.choice(leaders), self.rng.choice([0.01, 0.5, 2.0])) if leaders else None

    def _reboot(self) -> str | None:
        """Faster than anybody notices."""
        return self._kill_one(self.rng.choice(self.cluster.node_ids), 0.001)

    def _cut_power(self) -> str | None:
        return self._cut_power_of(self.rng.choice(self.cluster.node_ids), self.rng.choice([0.05, 0.5, 2.5]))

    def _cut_power_of(self, node_id: int, down_s: float) -> str | None:
        if node_id not in self.cluster.processes:
            return None
        self.cluster.cut_power(node_id)
        self._start_later(node_id, down_s)
        return f"node {node_id} for {down_s} s"

    def _cut_power_of_all(self) -> str | None:
        if self.rng.random() < 0.7:
            return None
        for node_id in self.cluster.node_ids:
            self.cluster.cut_power(node_id)
            self._start_later(node_id, self.rng.uniform(0.05, 0.8))
        return ""

    def _die_in_a_write(self) -> str | None:
        """Between two calls to the disk or within one; half of them while the process starts."""
        node_id, down_s = self.rng.choice(self.cluster.node_ids), self.rng.choice([0.01, 0.2, 1.0])
        if self.rng.random() < 0.5:
            return self._doom(node_id, down_s)
        if self._kill_one(node_id, down_s) is None:
            return None
        countdown = self._countdown(node_id, down_s)
        self._later(down_s, lambda: setattr(self.cluster.machines[node_id].disk, "countdown", countdown))
        return f"node {node_id}, killed, in write {countdown.writes} to {countdown.path} of the next process"

    def _doom(self, node_id: int, down_s: float) -> str | None:
        if node_id not in self.cluster.processes:
            return None
        self.cluster.machines[node_id].disk.countdown = countdown = self._countdown(node_id, down_s)
        return f"node {node_id} in write {countdown.writes} to {countdown.path}, for {down_s} s"

    def _countdown(self, node_id: int, down_s: float) -> Countdown:
        ends = self.rng.choice([self.cluster.kill, self.cluster.cut_power])
        writes = self.rng.randint(1, self.rng.choice([6, 40]))

        def die() -> None:
            self.log.append(f"{self.cluster.loop.time():9.4f} node {node_id} dies in a write: {ends.__name__}")
            ends(node_id)
            self._start_later(node_id, down_s)

        return Countdown(writes, self.rng.choice(DEADLY), die, Random(self.rng.random()))

    def _pause(self) -> str | None:
        return self._pause_one(self.rng.choice(self.cluster.node_ids), self.rng.choice([0.1, 0.6, 1.3, 2.5]))

    def _pause_one(self, node_id: int, for_s: float) -> str | None:
        if node_id not in self.cluster.processes:
            return None
        life: Life = self.cluster.processes[node_id].life
        if life.is_stopped:
            return None
        life.stop()
        self._later(for_s, lambda: life.go_on() if life.is_alive and life.is_stopped else None)
        return f"node {node_id} for {for_s} s"

    # ---- network

    def _block(self, source: int, target: int, for_s: float) -> None:
        network = self.cluster.network
        network.block(source, target)
        self._later(for_s, lambda: network.unblock(source, target))

    def _cut_link(self) -> str:
        source, target = self.rng.sample(self.cluster.node_ids, 2)
        for_s = self.rng.choice([0.1, 0.7, 2.0, 3.5])
        self._block(source, target, for_s)
        if self.rng.random() < 0.5:
            self._block(target, source, for_s)
        return f"{source} to {target} for {for_s} s"

    def _isolate(self) -> str:
        return self._isolate_one(self.rng.choice(self.cluster.node_ids), self.rng.choice([0.3, 1.2, 3.0]))

    def _isolate_one(self, node_id: int, for_s: float) -> str:
        for other in self.cluster.node_ids:
            if other != node_id:
                self._block(node_id, other, for_s)
                self._block(other, node_id, for_s)
        return f"node {node_id} for {for_s} s"

    def _slow_network(self) -> str:
        self.cluster.network.slowness = self.rng.choice([0.0, 0.01, 0.05])
        return f"{self.cluster.network.slowness:.0%}"

    def _reset_connections(self) -> str:
        """As a firewall that forgets: what was under way is lost, and so is who was to be answered."""
        how_many = self.cluster.network.reset(self.rng, self.rng.choice([0.2, 0.6, 1.0]))
        return f"{how_many} connections"

    # ---- disks and clocks

    def _slow_disk(self) -> str:
        machine = self.cluster.machines[self.rng.choice(self.cluster.node_ids)]
        usual = machine.sync_s
        machine.sync_s = SLOW_SYNC_S
        self._later(self.rng.uniform(0.3, 2.5), lambda: setattr(machine, "sync_s", usual))
        return f"node {machine.address}"

    def _fail_disk(self) -> str | None:
        """S19: the directory goes offline; the operator restarts the node."""
        node_id = self.rng.choice(self.cluster.node_ids)
        if node_id not in self.cluster.processes or not self._is_replaceable(node_id):
            return None
        operation, path = self.rng.choice(FAILING)
        self.cluster.machines[node_id].disk.fail(operation, errno.EIO, path=path)
        if operation == "fdatasync":
            self.cluster.watch.failing_syncs.add(node_id)
        ends = self.rng.choice([self._kill_one, self._cut_power_of])
        self._later(self.rng.uniform(0.3, 2.0), lambda: ends(node_id, 0.1))
        return f"node {node_id}, {operation} {path}"

    def _fail_read(self) -> str | None:
        """S18: a sector that cannot be read is damage. Once: what is asked for again may be read."""
        node_id = self.rng.choice(self.cluster.node_ids)
        if not self._is_replaceable(node_id):
            return None
        self.cluster.machines[node_id].disk.fail("pread", errno.EIO, path=".log")
        self.cluster.watch.unreadable.add(node_id)
        return f"node {node_id}"

    def _shorten_write(self) -> str:
        """S19: the disk takes a part of a batch, and then the rest."""
        node_id, size_bytes = self.rng.choice(self.cluster.node_ids), self.rng.randint(1, 80)
        self.cluster.machines[node_id].disk.shorten(size_bytes)
        return f"node {node_id}, {size_bytes} bytes"

    def _damage_index(self) -> str | None:
        """S18: whatever is kept beside the records is made anew from them."""
        cluster, node_id = self.cluster, self.rng.choice(self.cluster.node_ids)
        files = [path for path in cluster.machines[node_id].disk.paths() if path.endswith(DERIVED)]
        if node_id not in cluster.processes or not files:
            return None
        cluster.kill(node_id)
        path = self.rng.choice(files)
        cluster.machines[node_id].disk.damage(path, self.rng)
        self._start_later(node_id, 0.05)
        return f"node {node_id}, {path}"

    def _fill_disk(self) -> str:
        """S19: seen coming, or from one write to the next."""
        machine = self.cluster.machines[self.rng.choice(self.cluster.node_ids)]
        if self.rng.random() < 0.5:
            machine.disk.fail("pwrite", errno.ENOSPC, path=".log", times=self.rng.randint(1, 5))
            return f"node {machine.address}, writes"
        machine.disk.free = self.rng.choice([0, TOO_LITTLE_BYTES, TOO_LITTLE_BYTES])
        self._later(self.rng.uniform(0.3, 2.0), lambda: setattr(machine.disk, "free", None))
        return f"node {machine.address}"

    def _lose_disk(self) -> str | None:
        node_id = self.rng.choice(self.cluster.node_ids)
        if self.rng.random() < 0.5 or not self._is_replaceable(node_id) or not self.cluster.metadata.all_count:
            return None
        self.cluster.replace_disk(node_id)
        self._start_later(node_id, self.rng.choice([0.01, 0.3, 2.0]))
        return f"node {node_id}"

    def _rot(self) -> str | None:
        """S18: a bit of what is synced turns, in a file that is being used or read again by the next process."""
        cluster, node_id = self.cluster, self.rng.choice(self.cluster.node_ids)
        keys = sorted(key for key in cluster.watch.partitions if self._is_there(key))
        if not keys or node_id not in cluster.processes or not self._is_replaceable(node_id):
            return None
        key, disk = self.rng.choice(keys), cluster.machines[node_id].disk
        folder = f"-{key[1]}.{uuid_to_text(key[0])}/"
        segments = [path for path in disk.paths(".log") if folder in path]
        if not segments:
            return None
        path = self.rng.choice([self.rng.choice(segments), segments[-1]])
        found = disk.rot(path, self.rng, is_last=path == segments[-1])
        if found is None:
            return None
        at, offsets = found
        cluster.watch.rotten(node_id, key, offsets)
        if self.rng.random() < 0.5:
            self._kill_one(node_id, 0.05)
        return f"node {node_id}, {path} at {at}, of {offsets}"

    def _is_there(self, key: Key) -> bool:
        """Of the topic, and not of one that was deleted and may have left a line somewhere."""
        return key in self.cluster.watch.partitions and self.cluster.watch.partitions[key].state is not None

    def _is_replaceable(self, node_id: int) -> bool:
        """Whatever this node holds, another in-sync replica that runs holds too, and nobody else's disk is to blame."""
        cluster = self.cluster
        if any(machine.disk.will_fail for machine in cluster.machines.values() if machine.address != node_id):
            return False
        for checkers in cluster.watch.partitions.values():
            state = checkers.state
            if state is None or node_id not in (*state.replicas, *state.eligible_leader_replicas):
                continue
            if checkers.damaged.keys() - {node_id}:
                return False
            others = [other for other in state.in_sync_replicas if other != node_id and self._is_sound(other)]
            if not any(checkers.matching(other) >= len(checkers.committed) for other in others):
                return False
        return True

    def _is_sound(self, node_id: int) -> bool:
        """It runs, stays in sync (who is not registered yet may leave), its disk has not failed, nothing is damaged."""
        process = self.cluster.processes.get(node_id)
        if process is None or process.node is None or process.node.broker_epoch is None:
            return False
        return not process.has_damage and not self.cluster.machines[node_id].disk.will_fail

    def _jump_clock(self) -> str:
        machine = self.cluster.machines[self.rng.choice(self.cluster.node_ids)]
        machine.clock.wall_error_ms = self.rng.choice([0, -3_600_000, 3_600_000])
        return f"node {machine.address} by {machine.clock.wall_error_ms} ms"

    # ---- the cluster

    def _replace_controller(self) -> str:
        self.cluster.metadata.elect()
        return f"now {self.cluster.metadata.leader_id}"

    def _delete_records(self) -> str | None:
        """As retention does; no fault, but followers must begin where their leader's log begins."""
        leading = [found for found in self.cluster.replicas() if found[1].is_leader]
        if not leading or self.rng.random() < 0.5:
            return None
        node_id, replica = self.rng.choice(leading)
        log = replica.log
        offset = self.rng.randint(log.log_start_offset, log.high_watermark)
        checkers = self.cluster.watch.of(log.key)
        checkers.deleted_to = max(checkers.deleted_to, offset)
        self.cluster.act_as(node_id, lambda: log.delete_records_before(offset))
        return f"{replica.name} before {offset}"

    def _move(self) -> str | None:
        """Reassign a partition, or cancel it."""
        cluster = self.cluster
        running, topic = self._ready(), cluster.topic
        if len(cluster.node_ids) == 3 or not running or topic is None:
            return None
        partition = self.rng.randrange(len(topic.partitions))
        replicas = None if self.rng.random() < 0.15 else tuple(self.rng.sample(cluster.node_ids, 3))
        one = PartitionReassignment(topic_id=topic.topic_id, partition=partition, replicas=replicas)
        cluster.ask(self.rng.choice(running), ReassignPartitionsRequest(assignments=(one,)))
        return f"{partition} to {replicas}"

    def _delete_topic(self) -> str | None:
        """S17: somebody makes it anew under its name, while clients and nodes still go by the old id."""
        running, topic = self._ready(), self.cluster.topic
        if not running or topic is None or self.rng.random() < TOPIC_STAYS:
            return None
        self.cluster.ask(self.rng.choice(running), DeleteTopicRequest(topic_id=topic.topic_id))
        return str(topic.topic_id)

    def _strike_pair(self) -> str | None:
        """Of the last two in sync one loses power and comes back at once, while the other is not heard of."""
        pairs = [state.in_sync_replicas for state in self.cluster.states() if len(state.in_sync_replicas) == 2]
        if not pairs:
            return None
        first, second = self.rng.sample(self.rng.choice(pairs), 2)
        self.cluster.cut_power(first)
        self._start_later(first, 0.02)
        for other in self.cluster.node_ids:
            if other != second:
                self._block(second, other, 1.5)
                self._block(other, second, 1.5)
        return f"{first}, {second}"
