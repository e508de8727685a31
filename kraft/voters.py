"""A voter as pysyncobj knows one: a Node whose id is the node id, so that sets of them iterate alike everywhere."""

from pysyncobj.node import Node


class Voter(Node):  # type: ignore[misc]  # pysyncobj has no type hints
    """Equal and hashed by node id. The transport maps it to an address from the config."""

    id: int

    def __init__(self, node_id: int) -> None:
        super().__init__(node_id)

    def __str__(self) -> str:
        return f"voter {self.id}"
