"""What a proposal or a call to a peer can end in, other than an answer.

`NotLeader` is certain: nothing was appended, asking the named leader is safe. `OutcomeUnknown` is the honest "may or
may not have happened": the caller retries with the same command id. Neither is a bug, and neither is a failing disk:
that is `DamagedError` (what is on disk is not what was written) or a plain OSError, and both stop the node.
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


class DamagedError(Exception):
    """A file of the metadata directory is not what was written. Names the file and how to re-join the node.

    Raised at start, before any message leaves (S16): a voter that forgot what it acknowledged must not vote.
    """

    def __init__(self, path: str, damage: str) -> None:
        super().__init__(
            f"{path}: {damage}. This voter may have acknowledged what it no longer has, so it does not start. "
            f"To re-join it: with a majority of the other voters up, move this file's directory away and start the "
            f"node with --format; it catches up from the leader before it votes again."
        )
        self.path = path
