"""The same cluster in memory and in threads, for tests that ask the same of every `MetadataQuorum`."""

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from kraft.errors import NotLeader, OutcomeUnknown
from kraft.memory_quorum import MemoryCluster, MemoryQuorum
from kraft.observer import Observer
from kraft.quorum import MetadataQuorum, RaftQuorum
from tests.kraft.quorum_harness import RecordingMachine, quorum_configs, until

PATIENT = {"heartbeat_interval_s": 0.05, "election_timeout_min_s": 0.6, "election_timeout_max_s": 1.2}


class QuorumCluster:
    """Members by node id, each with the machine that it carries; voters 1..n, then observers."""

    def __init__(self) -> None:
        self.members: dict[int, Any] = {}
        self.machines: dict[int, RecordingMachine] = {}

    async def start(self, node_id: int) -> MetadataQuorum:
        self.machines[node_id] = RecordingMachine()
        member = self.make(node_id, self.machines[node_id])
        self.members[node_id] = member
        await member.start()
        return member

    async def stop(self, node_id: int) -> None:
        await self.members.pop(node_id).stop()

    async def stop_all(self) -> None:
        await asyncio.gather(*(member.stop() for member in self.members.values()))

    def make(self, node_id: int, machine: RecordingMachine) -> MetadataQuorum:
        raise NotImplementedError

    async def leader(self) -> MetadataQuorum:
        """The member that leads, once its barrier has passed and every running member knows it."""

        def led_by() -> list[Any]:
            return [member for member in self.members.values() if member.is_leader]

        def is_agreed() -> bool:
            leaders = led_by()
            if len(leaders) != 1 or len({m.leader_id for m in self.members.values()}) != 1:
                return False
            return all(self.is_linked(member) for member in self.members.values())

        while True:
            await until(is_agreed, what="one leader that all know, and all links")
            for leader in led_by():
                with contextlib.suppress(NotLeader, OutcomeUnknown):  # a busy machine made them elect anew
                    await leader.barrier(timeout_s=30)
                    return leader

    def is_linked(self, member: Any) -> bool:
        """Whether a member has its links to all running voters."""
        return True

    def id_of(self, member: MetadataQuorum) -> int:
        return next(node_id for node_id, each in self.members.items() if each is member)

    def others(self, member: MetadataQuorum) -> list[Any]:
        return [each for each in self.members.values() if each is not member]

    async def depose(self, leader: MetadataQuorum) -> None:
        """Stop the leader for good."""
        await self.stop(self.id_of(leader))


class ThreadCluster(QuorumCluster):
    """Real members with real journals and sockets, in one process.

    The first voter is eager to lead, the others are patient: a cluster starts quickly, and a machine that is busy for a
    moment makes nobody elect anew.
    """

    def __init__(self, directory: Path, *, voters: int, observers: int = 0, **settings: object) -> None:
        super().__init__()
        self.configs = quorum_configs(directory, voters=voters, observers=observers, **(PATIENT | settings))
        self.configs[1] = dataclasses.replace(self.configs[1], election_timeout_min_s=0.2, election_timeout_max_s=0.4)

    def make(self, node_id: int, machine: RecordingMachine) -> MetadataQuorum:
        config = self.configs[node_id]
        return RaftQuorum(config, machine) if config.is_voter else Observer(config, machine)

    def is_linked(self, member: Any) -> bool:
        running = self.members.keys() & self.configs[1].voters.keys()
        return running <= member._member.transport.connected_ids() | {self.id_of(member)}


class SharedMemoryCluster(QuorumCluster):
    """`MemoryQuorum`s; a leader that stops is followed by the least voter that runs."""

    def __init__(self, *, voters: int) -> None:
        super().__init__()
        self.cluster = MemoryCluster(range(1, voters + 1))

    def make(self, node_id: int, machine: RecordingMachine) -> MetadataQuorum:
        return MemoryQuorum(self.cluster, node_id, machine)

    async def leader(self) -> MetadataQuorum:
        if self.cluster.leader_id is None:
            self.cluster.elect(min(node_id for node_id in self.members if node_id in self.cluster.voters))
        return await super().leader()
