"""Producers, pollers and creators of topics, each a thread with its own connections, writing one history.

Owns the threads: `stop` ends and joins them, and raises what one of them met that no fault explains. Values are unique:
partition, producer, count.
"""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.harness import READY_S, Deadline, Node, wait_until
from tests.faults.history import Final, Operation, Outcome, Send

PAUSE_S = 0.02
STOP_S = 30.0


class Workload:
    """Everything that clients do at one time; `history` grows from several threads (a list append is atomic)."""

    def __init__(self, nodes: Sequence[Node], topic: str, partitions: int, chance: random.Random) -> None:
        self.history: list[Operation] = []
        self.acknowledged = 0
        self.think_s = 0.0
        """Between two requests of one HTTP producer, where it shall not be as fast as it can."""
        self._nodes = tuple(nodes)
        self._topic = topic
        self._partitions = partitions
        self._chance = chance
        self._stopping = threading.Event()
        self._has_read_all = threading.Event()
        self._threads: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []
        self.positions: dict[str, dict[int, int]] = {}
        """How far each reader is in each partition."""
        self._finals: list[Final] = []
        self._under_way: dict[str, Send] = {}
        """Sends that were not answered yet, by their first value; whoever takes one out notes what became of it."""
        self._errors: list[BaseException] = []
        self._probes = itertools.count()

    def start(self, *, producers: int = 3, pollers: int = 1, creators: int = 0) -> None:
        for work, count in ((self._produce, producers), (self._create, creators)):
            self._begin(work, count)
        self._begin_reader(self._poll, pollers)

    def _begin(self, work: Callable[[str, random.Random], None], count: int) -> None:
        for index in range(count):
            seed = self._chance.randrange(2**32)
            name = f"{work.__name__.strip('_')}-{index}"
            thread = threading.Thread(target=self._run, args=(work, name, random.Random(seed)), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _begin_reader(self, work: Callable[[str, random.Random], None], count: int) -> None:
        before = len(self._threads)
        self._begin(work, count)
        self._readers += self._threads[before:]
        del self._threads[before:]

    def abandon(self) -> None:
        """Stop without waiting: the threads end with the process."""
        self._stopping.set()
        self._has_read_all.set()

    def stop(self) -> None:
        self.stop_writing()
        self._has_read_all.set()
        self._join(self._readers)

    def stop_writing(self) -> None:
        """Readers go on."""
        self._stopping.set()
        self._join(self._threads)

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(STOP_S)
            assert not thread.is_alive(), f"{thread.name} hangs: a request was not answered by its timeout (L1)"
        threads.clear()
        if self._errors:
            raise self._errors[0]

    def wait_for_readers(self, deadline: Deadline) -> None:
        """Return when every reader has come to the ends that `read_everything` found: none was left behind (L1)."""
        ends = {final.partition: final.log_start_offset + len(final.records) for final in self._finals}

        def have_read_all() -> bool:
            return all(
                at >= ends.get(f"{self._topic}-{partition}", 0)
                for positions in self.positions.values()
                for partition, at in positions.items()
            )

        deadline.wait_until(lambda: have_read_all() or self._errors, "every reader comes to the end")

    def wait_for_more(self, records: int, timeout_s: float = 30.0) -> None:
        """Return when so many more records were acknowledged: a run without any proves nothing."""
        goal = self.acknowledged + records
        wait_until(lambda: self.acknowledged >= goal or self._errors, f"{goal} acknowledged", timeout_s=timeout_s)

    def wait_for_write(self, partition: int, deadline: Deadline) -> None:
        """Return when a batch of its own is acknowledged in this partition (L1)."""

        def is_written() -> bool:
            with self._nodes[0].client() as client:
                values = (f"{partition}/probe/{next(self._probes)}",)
                self._send_off(partition, values)
                sent, _ = client.send_batch(self._topic, partition, values)
            self._add([sent])
            return sent.outcome is Outcome.ACKNOWLEDGED

        deadline.wait_until(is_written, f"{self._topic}-{partition} takes a write")

    def read_everything(self, deadline: Deadline | None = None) -> None:
        """The final reads: every partition, once it answers. One that cannot be read keeps no other from being read."""
        errors: list[Exception] = []
        self._finals = []
        for partition in range(self._partitions):
            try:
                self._finals.append(self._final(partition, deadline or Deadline(READY_S)))
            except (AssertionError, ValueError) as error:
                errors.append(error)
        self.history += self._finals
        if errors:
            raise errors[0]

    def _final(self, partition: int, deadline: Deadline) -> Final:
        found: list[Final] = []

        def read() -> bool:
            with (
                contextlib.suppress(NotSentError, DoubtfulError),
                self._nodes[partition % len(self._nodes)].client() as client,
            ):
                if client.poll(self._topic, partition, 0) is not None:
                    found.append(client.read_all(self._topic, partition))
            return bool(found)

        deadline.wait_until(read, f"{self._topic}-{partition} can be read")
        return found[0]

    def _run(self, work: Callable[[str, random.Random], None], name: str, chance: random.Random) -> None:
        try:
            work(name, chance)
        except BaseException as error:  # noqa: BLE001 - told by stop(), in the test's own thread
            self._errors.append(error)

    def _produce(self, name: str, chance: random.Random) -> None:
        counter = itertools.count()
        clients = [node.client() for node in self._nodes]
        while not self._stopping.is_set():
            client = chance.choice(clients)
            partitions = chance.sample(range(self._partitions), chance.randint(1, self._partitions))
            wanted = {
                partition: tuple(f"{partition}/{name}/{next(counter)}" for _ in range(chance.randint(1, 20)))
                for partition in partitions
            }
            for partition, values in wanted.items():
                self._send_off(partition, values)
            if len(wanted) == 1:
                partition, values = wanted.popitem()
                sends = [client.send_batch(self._topic, partition, values)[0]]
            else:
                sends = client.send_entries(self._topic, wanted)
            self._note(sends)
            self._stopping.wait(self.think_s)
        for client in clients:
            client.close()

    def _send_off(self, partition: int, values: tuple[str, ...]) -> None:
        """Said before it is sent, so that it is known of even where the client ends or hangs in the middle."""
        now_s = time.monotonic()
        self._under_way[values[0]] = Send(f"{self._topic}-{partition}", values, now_s, now_s, Outcome.UNKNOWN)

    def _add(self, sends: list[Send]) -> None:
        self.history += (send for send in sends if self._under_way.pop(send.values[0], None) is not None)

    def note_unanswered(self) -> None:
        """What is still under way after everybody was stopped is unknown: a client hangs, or ended with an error."""
        for send in list(self._under_way.values()):
            self._add([replace(send, ended_s=time.monotonic())])

    def _note(self, sends: list[Send]) -> None:
        self._add(sends)
        written = [send for send in sends if send.outcome is Outcome.ACKNOWLEDGED]
        self.acknowledged += sum(len(send.values) for send in written)
        if not written:
            self._stopping.wait(PAUSE_S)

    def _poll(self, name: str, chance: random.Random) -> None:
        positions = self.positions[name] = dict.fromkeys(range(self._partitions), 0)
        clients = [node.client() for node in self._nodes]
        while not self._has_read_all.is_set():
            partition = chance.randrange(self._partitions)
            polled = chance.choice(clients).poll(self._topic, partition, positions[partition], timeout_ms=50)
            if polled is None:
                self._has_read_all.wait(PAUSE_S)
                continue
            self.history.append(replace(polled, process=name))
            if polled.records:
                positions[partition] = polled.records[-1][0] + 1
        for client in clients:
            client.close()

    def _create(self, name: str, chance: random.Random) -> None:
        for number in itertools.count():
            if self._stopping.wait(PAUSE_S * (1 + number / 20)):  # some hundred in minutes, not thousands
                return
            with chance.choice(self._nodes).client(timeout_s=5) as client:
                self.history.append(client.create_topic(f"{name}-{number}", chance.randint(1, 3)))
