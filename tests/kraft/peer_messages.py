"""Messages as a peer would send them, for tests that hand them to one core by hand, late, twice or out of order."""

from typing import Any

from tests.kraft.simulated_cluster import SimulatedCluster

Entry = tuple[bytes, int, int]


def entry(index: int, term: int, name: str = "") -> Entry:
    """An application entry."""
    return (b"\x00" + (name or f"{index}@{term}").encode(), index, term)


class Peer:
    """Speaks for one voter, from its committed directory, to one running core; remembers what the core answered."""

    def __init__(self, cluster: SimulatedCluster, node_id: int, to: int = 1) -> None:
        self.cluster, self.node_id, self.to = cluster, node_id, to
        self.directory = cluster.initial_directories[node_id].bytes
        if cluster.messages is None:
            cluster.messages = []

    def say(self, kind: str, term: int, **fields: Any) -> list[dict[str, Any]]:
        """Deliver one message, let the core take its turn, return what it said to this peer."""
        assert self.cluster.messages is not None
        already = len(self.cluster.messages)
        message = {"type": kind, "term": term, "directory": self.directory} | fields
        self.cluster.deliver(self.node_id, self.to, message)
        self.cluster.tick(self.cluster.nodes[self.to])
        return [said for _sender, receiver, said in self.cluster.messages[already:] if receiver == self.node_id]

    def append(self, term: int, prev: tuple[int, int], *entries: Entry, commit: int = 2) -> dict[str, Any]:
        """append_entries after `prev` = (index, term); the core's answer to it."""
        [answer] = self.say(
            "append_entries",
            term,
            prev_log_index=prev[0],
            prev_log_term=prev[1],
            entries=list(entries),
            commit_index=commit,
        )
        return answer

    def acknowledge(self, term: int, match_index: int) -> None:
        self.say("next_node_idx", term, success=True, next_node_idx=match_index + 1, rejected=0, hint_term=0)

    def request_vote(self, term: int, last: tuple[int, int]) -> bool:
        """Whether the core granted its vote to a log that ends at `last` = (index, term)."""
        said = self.say("request_vote", term, last_log_index=last[0], last_log_term=last[1])
        return any(answer["type"] == "response_vote" and answer["term"] == term for answer in said)

    def pre_vote(self, term: int, last: tuple[int, int]) -> bool:
        [answer] = self.say("pre_vote", term, last_log_index=last[0], last_log_term=last[1])
        return bool(answer["granted"])

    def chunk(
        self, term: int, index: int, snapshot_term: int, content: bytes, offset: int = 0, size: int | None = None
    ):
        """One snapshot chunk; the core's answer."""
        [answer] = self.say(
            "snapshot_chunk",
            term,
            snapshot_index=index,
            snapshot_term=snapshot_term,
            total_bytes=len(content),
            offset=offset,
            data=content[offset : None if size is None else offset + size],
        )
        return answer
