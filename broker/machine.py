"""What a node takes of the machine that it runs on: clocks, disks, threads, ids, and its end of the quorum.

Owns the list of these ports and what they really are. Everything else that a node does in the world it does through its
event loop (time, connections, listeners), so that a simulated machine on a simulated loop runs the same node.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from broker.clock import Clock, SystemClock
from broker.cluster_image import ClusterImage
from broker.meta_properties import Formation, MetaProperties, identify_directory
from broker.node_config import NodeConfig
from broker.quorum_membership import quorum_for
from kraft.quorum import MetadataQuorum
from logstore.storage import PosixStorage, Storage


class IdentifyDirectory(Protocol):
    def __call__(self, path: Path, *, cluster_id: str, node_id: int) -> UUID:
        """The id of a log directory, which is made and marked where it is new; raises ConfigError."""


QuorumFor = Callable[[NodeConfig, MetaProperties, Formation | None, ClusterImage], MetadataQuorum]


def _threads(count: int, name: str) -> Executor:
    return ThreadPoolExecutor(count, thread_name_prefix=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The ports; by default those of this machine."""

    clock: Clock = field(default_factory=SystemClock)
    storage: Callable[[], Storage] = PosixStorage
    identify_directory: IdentifyDirectory = identify_directory
    threads: Callable[[int, str], Executor] = _threads
    new_id: Callable[[], UUID] = uuid.uuid4
    quorum_for: QuorumFor = quorum_for


THIS_MACHINE: Final = Machine()
