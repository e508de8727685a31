"""What a proposal or a call to a peer can end in, other than an answer.

`NotLeader` is certain: nothing was appended, asking the named leader is safe. `OutcomeUnknown` is the honest "may or may not
have happened": the caller retries with the same command id. Neither is a bug, and neither is the disk's failure: those are
`JournalDamagedError` (kraft/journal.py), `SnapshotDamagedError` (kraft/snapshot.py) and plain OSError, and all of them stop
the node.
"""


class QuorumError(Exception):
    """Base of what the quorum answers instead of a result."""


class NotLeader(QuorumError):  # noqa: N818 - the name is the answer, as in Kafka's NOT_LEADER
    """The proposal was not appended here; `leader_id` is the last known leader, None while there is none."""

    def __init__(self, leader_id: int | None) -> None:
        super().__init__(f"not the leader of the metadata quorum; the leader is {leader_id}")
        self.leader_id = leader_id


class OutcomeUnknown(QuorumError):  # noqa: N818 - the name is the answer
    """The proposal may or may not be committed: leadership was lost, or time ran out, after it was appended."""


class PeerUnavailable(QuorumError):  # noqa: N818 - the name is the answer
    """The request did not reach the peer: it was certainly not carried out."""
