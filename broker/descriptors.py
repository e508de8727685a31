"""How many files and connections this process may hold, and a configuration that fits into that.

Owns the soft RLIMIT_NOFILE: raised to the hard one, since only `select` ever needed it low (Kafka asks for 100,000).
Refuses nothing: where less is allowed than the configuration would take, its caps are lowered and one warning says to
what, so that a full node turns connections away (429) instead of failing to open a segment.
Invariant: max_connections + log_max_open_files + OTHERS of what `fitted` returns are at most the limit, unless that is
below what a node needs at all.
"""

import dataclasses
import resource
from typing import Final

from broker.node_config import NodeConfig

OTHERS: Final = 200
"""Listeners, the peer link, the pool to other nodes, journal, locks, and the runtime's own."""
OPEN_FILES_MIN: Final = 16
CONNECTIONS_MIN: Final = 16
UNLIMITED: Final = 2**62


def raise_limit() -> int:
    """Raise the soft limit of descriptors as far as it goes; the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return _number(soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS: the hard limit says "infinity", the kernel takes less
        return _number(soft)
    return _number(hard)


def _number(limit: int) -> int:
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit


def fitted(config: NodeConfig, limit: int, warnings: list[str]) -> NodeConfig:
    """The configuration with caps that `limit` descriptors allow: a quarter for files at most, the rest connections."""
    wanted = config.max_connections + config.log_max_open_files + OTHERS
    if wanted <= limit:
        return config
    left = max(limit - OTHERS, 0)
    files = min(config.log_max_open_files, max(left // 4, left - config.max_connections, OPEN_FILES_MIN))
    connections = min(config.max_connections, max(left - files, CONNECTIONS_MIN))
    warnings.append(
        f"this process may open {limit} files (ulimit -n), max.connections and log.max.open.files allow {wanted}: going"
        f" on with max.connections={connections} and log.max.open.files={files}; raise the limit (LimitNOFILE=100000)"
    )
    return dataclasses.replace(config, max_connections=connections, log_max_open_files=files)
