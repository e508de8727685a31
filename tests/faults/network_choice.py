"""Which network lies between the nodes: packets in namespaces where they can be had, proxies elsewhere.

Owns the choice and the sentence that explains it. Nobody else asks which of the two it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.harness import Cluster
from tests.faults.links import Links
from tests.faults.namespaces import Namespaces, NoNamespacesError, why_not
from tests.faults.network import Network

NAMESPACES, PROXIES = KINDS = ("namespaces", "proxies")
Layer = Callable[[Cluster, int], Network]
"""Lays a network between the nodes of a cluster; the number is a seed for what it draws."""


@dataclass(frozen=True, slots=True)
class Choice:
    kind: str
    why: str
    lay: Layer


def choose(wanted: str | None = None) -> Choice:
    """The kind that is wanted, or the best; raises NoNamespacesError where they are wanted and cannot be had."""
    if wanted == PROXIES:
        return Choice(PROXIES, "as asked for; faults are on bytes", Links)
    if (reason := why_not()) is None:
        return Choice(NAMESPACES, "each node in one of its own; faults are on packets", Namespaces)
    if wanted == NAMESPACES:
        raise NoNamespacesError(reason)
    return Choice(PROXIES, f"{reason}; faults are on bytes", Links)
