"""Conversations between cores as text: tests/kraft/scenarios/*.txt, recorded here and read by people.

    python -m tests.kraft.conversations --rewrite      # record all anew; then review the difference

Heartbeats that say nothing new are left out.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kraft.simulated_cluster import SimulatedCluster, simulated

FOLDER = Path(__file__).parent / "scenarios"


class Transcript:
    """Writes down what is said, from now on."""

    def __init__(self, cluster: SimulatedCluster, title: str) -> None:
        self.cluster = cluster
        self.lines = [f"# {title}"]
        self._known: dict[tuple[int, int], str] = {}
        self._spoken = 0
        cluster.messages = []

    def note(self, text: str) -> None:
        """What the test does to the cluster."""
        self.write()
        self.lines.append(f"\n-- {text}")

    def write(self) -> None:
        """Add what was said since the last time."""
        messages = self.cluster.messages
        assert messages is not None
        for sender, receiver, message in messages[self._spoken :]:
            said = sentence(message)
            if self._known.get((sender, receiver)) != said:
                self._known[sender, receiver] = said
                self.lines.append(f"{sender} -> {receiver}  {said}")
        self._spoken = len(messages)

    def text(self) -> str:
        self.write()
        lines = [*self.lines, "", "-- at the end"]
        for node in self.cluster.running:
            core = node.core
            assert core is not None
            role = "leader" if core.is_leader else "follower" if core.is_seated else "not seated"
            log = f"log {core.journal.first_index}..{core.journal.last_index}"
            lines.append(f"{node.node_id}: {role}, term {core.term}, {log}, applied {core.applied}")
        return "\n".join(lines) + "\n"


def sentence(message: Any) -> str:
    """One message on one line."""
    term = f"term {message['term']}"
    match message["type"]:
        case "append_entries":
            entries = message["entries"]
            what = f"entries {entries[0][1]}..{entries[-1][1]}" if entries else "no entries"
            after = f"after {message['prev_log_index']}@{message['prev_log_term']}"
            return f"append_entries {term}: {what} {after}, committed {message['commit_index']}"
        case "next_node_idx" if message["success"]:
            return f"next_node_idx {term}: yes, up to {message['next_node_idx'] - 1}"
        case "next_node_idx":
            agreed = f"at most {message['next_node_idx'] - 1}@{message['hint_term']}"
            return f"next_node_idx {term}: no, not after {message['rejected']}; {agreed}"
        case "snapshot_chunk":
            end = message["offset"] + len(message["data"])
            point = f"{message['snapshot_index']}@{message['snapshot_term']}"
            return f"snapshot_chunk {term}: of {point}, bytes {message['offset']}..{end} of {message['total_bytes']}"
        case "snapshot_chunk_ack":
            return f"snapshot_chunk_ack {term}: go on at {message['offset']}"
        case "pre_vote" | "request_vote" as kind:
            return f"{kind} {term}: my log ends at {message['last_log_index']}@{message['last_log_term']}"
        case "response_pre_vote":
            answer = "yes" if message["granted"] else "no"
            return f"response_pre_vote {term}: {answer} for term {message['campaign_term']}"
        case kind:
            return f"{kind} {term}"


def first_election() -> str:
    with simulated(3, seed=3) as cluster:
        transcript = Transcript(cluster, "Three new voters elect a leader")
        cluster.leader()
        cluster.run(0.5)
        return transcript.text()


def lagging_follower() -> str:
    with simulated(3, seed=3) as cluster:
        cluster.commit(b"a")
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        transcript = Transcript(cluster, "A follower that was away gets the entries that it lacks")
        transcript.note(f"{behind} loses power; 3 commits")
        cluster.crash(behind)
        cluster.commit(b"b", b"c", b"d")
        cluster.run(0.3)
        transcript.note(f"{behind} returns")
        cluster.start(behind)
        cluster.converge()
        return transcript.text()


def follower_behind_the_snapshot() -> str:
    with simulated(3, seed=3, snapshot_entries=20, retained_entries=2, snapshot_chunk_bytes=150) as cluster:
        cluster.commit(b"a")
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(behind)
        cluster.commit(*[b"%d" % number for number in range(60)])
        cluster.run(0.3)
        transcript = Transcript(cluster, "A follower whose next entry is compacted gets the snapshot, then entries")
        transcript.note(f"{behind} returns")
        cluster.start(behind)
        cluster.converge()
        return transcript.text()


def divergent_follower() -> str:
    with simulated(3, seed=3) as cluster:
        cluster.commit(b"a")
        old = cluster.leader()
        transcript = Transcript(cluster, "A deposed leader's own entries give way to the new leader's")
        transcript.note(f"{old} is cut off with 5 entries of its own; the others elect a leader and commit 3")
        cluster.isolate(old)
        for number in range(5):
            cluster.propose(old, b"lost%d" % number)
        cluster.run_until(lambda: not cluster.core(old).is_leader)
        cluster.run_until(lambda: any(node.core is not None and node.core.is_leader for node in cluster.running))
        cluster.commit(b"b", b"c", b"d")
        transcript.write()
        transcript.note(f"{old} is heard again")
        cluster.weather.blocked.clear()
        cluster.converge()
        return transcript.text()


def isolated_voter_returns() -> str:
    with simulated(3, seed=3) as cluster:
        cluster.commit(b"a")
        away = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        transcript = Transcript(cluster, "A voter that heard nobody returns: term and leader stay")
        transcript.note(f"{away} is cut off for 2 s")
        cluster.isolate(away)
        cluster.run(2.0)
        transcript.note(f"{away} is heard again")
        cluster.weather.blocked.clear()
        cluster.converge()
        cluster.run(0.5)
        return transcript.text()


def wiped_voter_returns() -> str:
    with simulated(3, seed=3) as cluster:
        cluster.commit(b"a", b"b")
        wiped = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        transcript = Transcript(
            cluster, "A voter that lost its disk catches up, is seated by a commit, and counts again"
        )
        transcript.note(f"{wiped} loses its disk and returns formatted anew")
        cluster.wipe(wiped)
        core = cluster.start(wiped)
        cluster.run_until(lambda: core.is_seated)
        cluster.converge()
        return transcript.text()


SCENARIOS: tuple[Callable[[], str], ...] = (
    first_election,
    lagging_follower,
    follower_behind_the_snapshot,
    divergent_follower,
    isolated_voter_returns,
    wiped_voter_returns,
)

if __name__ == "__main__":
    assert ["--rewrite"] == sys.argv[1:], __doc__
    for scenario in SCENARIOS:
        (FOLDER / f"{scenario.__name__}.txt").write_text(scenario())
