"""What a quorum member says about itself: values only, safe to hand to other threads."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RoleChange:
    """Leadership as this node sees it now. `leader_id` is None while no leader is known.

    `is_leader` is not yet permission to act as the controller: a `barrier()` is.
    """

    term: int
    leader_id: int | None
    is_leader: bool
    leader_silent_ms: int = field(default=0, compare=False)
    """For how long the leader that this node followed last had not been heard; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class VoterStatus:
    """One voter as the leader sees it. On other nodes match_index and last_heard_ms are None except for themselves."""

    node_id: int
    host: str
    port: int
    match_index: int | None
    lag: int | None
    last_heard_ms: int | None
    directory_ok: bool


@dataclass(frozen=True, slots=True)
class QuorumStatus:
    """The member's own view. The log holds entries `log_start_index` to `log_end_index`, both inclusive."""

    node_id: int
    term: int
    leader_id: int | None
    commit_index: int
    last_applied: int
    log_start_index: int
    log_end_index: int
    snapshot_index: int
    voters: tuple[VoterStatus, ...]
