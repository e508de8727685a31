"""Conversations between brokers and controller, as files: what is done, and below `----` what the log and image say.

Steps: `brokers N`, `create NAME replicas=1,2/3,1 [config=value...]`, `crash N`, `restart N [unclean|wiped]`, `stop N`,
`wait MS`, `new controller`, `config NAME config=value`, `move NAME PARTITION replicas=1,2 | cancel`, `in_sync NAME
PARTITION replicas=1,2` (as its leader asks), `elect NAME PARTITION KIND [leader=N]`, `show NAME`.
"""

from pathlib import Path

import pytest

from metadata.answers import Refused
from metadata.requests import (
    AlterConfigsRequest,
    ConfigChange,
    CreateTopicRequest,
    ElectLeadersRequest,
    PartitionName,
    PartitionReassignment,
    ReassignPartitionsRequest,
)
from tests.metadata.world import World
from wire.errors import RefusedError

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


class Script:
    """One world, told by lines; every entry of the log is noted with its answer."""

    def __init__(self):
        self.world = World()
        self.alive: set[int] = set()
        self.lives: dict[int, int] = {}
        self.notes: list[str] = []

    def run(self, line: str) -> list[str]:
        verb, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        self.notes = []
        try:
            getattr(self, verb)(*(word for word in words if "=" not in word), **options)
        except RefusedError as refused:
            self.notes.append(f"refused: {refused.code.name}: {refused.message}")
        return self.notes or ["(nothing)"]

    def brokers(self, count: str):
        self.world = World()
        propose = self.world.propose

        def noted(proposal):
            answer = propose(proposal)
            command = getattr(proposal, "command", proposal)
            said = f"{answer.code.name}" if isinstance(answer, Refused) else type(answer).__name__
            self.notes.append(f"{self.world.image.applied_index} {described(command)} -> {said}")
            return answer

        self.world.propose = noted
        for broker_id in range(1, int(count) + 1):
            self.restart(str(broker_id))

    def restart(self, broker: str, how: str = "clean"):
        broker_id = int(broker)
        self.lives[broker_id] = self.lives.get(broker_id, 0) + 1
        wiped = {"directory": 900 + self.lives[broker_id]} if how == "wiped" else {}
        self.world.start(broker_id, incarnation=self.lives[broker_id], clean=how == "clean", **wiped)
        self.alive.add(broker_id)

    def crash(self, broker: str):
        self.alive.discard(int(broker))

    def stop(self, broker: str):
        self.alive.discard(int(broker))
        self.world.beat(int(broker), wants_shutdown=True)
        self.world.settle()
        told = self.world.beat(int(broker), wants_shutdown=True).should_shut_down
        self.notes.append(f"broker {broker} is told: {'stop now' if told else 'go on'}")

    def wait(self, ms: str):
        self.world.pass_time(int(ms), alive=tuple(self.alive))

    def new(self, what: str):
        assert what == "controller"
        self.world.new_controller()

    def create(self, name: str, replicas: str, **configs: str):
        assignments = tuple(tuple(map(int, one.split(","))) for one in replicas.split("/"))
        self.world.ask(CreateTopicRequest(name=name, replicas_assignments=assignments, configs=changes(configs)))

    def config(self, name: str, **configs: str):
        self.world.ask(AlterConfigsRequest(name=name, changes=changes(configs)))
        self.world.settle()

    def move(self, name: str, partition: str, how: str = "", *, replicas: str = ""):
        target = None if how == "cancel" else numbers(replicas)
        wish = PartitionReassignment(name=name, partition=int(partition), replicas=target)
        self.told(self.world.ask(ReassignPartitionsRequest(assignments=(wish,))))

    def in_sync(self, name: str, partition: str, *, replicas: str):
        self.told(self.world.in_sync(name, *numbers(replicas), index=int(partition)))
        self.world.settle()

    def elect(self, name: str, partition: str, kind: str, *, leader: str = ""):
        partitions = (PartitionName(name=name, partition=int(partition)),)
        wanted = int(leader) if leader else None
        self.told(self.world.ask(ElectLeadersRequest(partitions=partitions, election=kind.upper(), leader=wanted)))

    def told(self, answer):
        """What an entry answers is noted already; what was decided without one is not."""
        if answer.index == self.world.image.applied_index and self.notes:
            return
        self.notes += [f"refused: {r.code.name}: {r.message}" for r in answer.refusals]

    def show(self, name: str):
        topic = self.world.image.topic(name)
        for index, state in enumerate(topic.partitions):
            leads = "leads" if self.world.image.leader_of(topic, index) else "does not lead"
            self.notes.append(
                f"{name}-{index}: leader {state.leader} ({leads}) epoch {state.leader_epoch}, "
                f"in sync {list(state.in_sync_replicas)}, eligible {list(state.eligible_leader_replicas)}"
            )
            if state.is_reassigning:
                self.notes.append(
                    f"{name}-{index}: replicas {list(state.replicas)}, adding {list(state.adding_replicas)}, "
                    f"removing {list(state.removing_replicas)}"
                )


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def changes(configs: dict[str, str]) -> tuple[ConfigChange, ...]:
    return tuple(ConfigChange(name=name, value=value) for name, value in configs.items())


def described(command) -> str:
    subject = getattr(command, "broker_id", getattr(command, "name", ""))
    if hasattr(command, "changes"):
        leaders = ", ".join(f"partition {c.partition} leader {c.leader}" for c in command.changes)
        subject = f"({leaders})"
    return f"{type(command).__name__} {subject}".rstrip()


def played(text: str) -> str:
    """The file as it should be: comments and steps as they are, outputs as they come."""
    script, blocks = Script(), []
    for block in text.strip().split("\n\n"):
        told = [line for line in block.partition("----")[0].split("\n") if line]
        output = [note for line in told if not line.startswith("#") for note in script.run(line)]
        blocks.append("\n".join([*told, "----", *output] if output else told))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_conversation_goes_as_it_was_recorded(path, request):
    recorded = path.read_text()
    now = played(recorded)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(now)
    else:
        assert recorded == now
