"""What the cores of two voters say to each other: plain dicts, each of one declared shape.

The peer transport decodes a frame to `RaftMessage` (msgspec checks the types) and then asks `lacks_keys`; the core
relies on both, so that nothing from the network can make it raise. pysyncobj's `apply_command`,
`apply_command_response`, `timeout_now`, `transmission` and `serialized` are not in the vocabulary: they were pickle and
forwarding.
"""

from typing import Annotated, Final, Literal, NotRequired, TypedDict

import msgspec

Index = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Entry = tuple[Annotated[bytes, msgspec.Meta(min_length=1)], Index, Index]
"""(kind byte + command, index, term), as pysyncobj keeps them."""


class RaftMessage(TypedDict):
    """All messages; which keys a type needs stands in `REQUIRED_KEYS`. Every one carries its sender's directory id."""

    type: Literal[
        "append_entries",
        "next_node_idx",
        "snapshot_chunk",
        "snapshot_chunk_ack",
        "request_vote",
        "response_vote",
        "pre_vote",
        "response_pre_vote",
    ]
    term: Index
    directory: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    # append_entries
    commit_index: NotRequired[Index]
    prev_log_index: NotRequired[Index]
    prev_log_term: NotRequired[Index]
    entries: NotRequired[list[Entry]]
    # next_node_idx: on success everything below next_node_idx is durable here and equal to the leader's log; else
    # `rejected` is the prev_log_index that did not match, and the logs can agree at most up to the entry before
    # next_node_idx, in terms up to hint_term; `rejected` 0 tells the term alone
    success: NotRequired[bool]
    next_node_idx: NotRequired[Index]
    rejected: NotRequired[Index]
    hint_term: NotRequired[Index]
    # snapshot_chunk, and its ack: `offset` is the next byte wanted
    snapshot_index: NotRequired[Index]
    snapshot_term: NotRequired[Index]
    total_bytes: NotRequired[Index]
    offset: NotRequired[Index]
    data: NotRequired[bytes]
    # request_vote, pre_vote (there `term` is the one that the sender would campaign in)
    last_log_index: NotRequired[Index]
    last_log_term: NotRequired[Index]
    # response_pre_vote: `term` is the responder's own, `campaign_term` the one asked for
    campaign_term: NotRequired[Index]
    granted: NotRequired[bool]


REQUIRED_KEYS: Final[dict[str, frozenset[str]]] = {
    "append_entries": frozenset({"commit_index", "prev_log_index", "prev_log_term", "entries"}),
    "next_node_idx": frozenset({"success", "next_node_idx", "rejected", "hint_term"}),
    "snapshot_chunk": frozenset({"snapshot_index", "snapshot_term", "total_bytes", "offset", "data"}),
    "snapshot_chunk_ack": frozenset({"snapshot_index", "snapshot_term", "offset"}),
    "request_vote": frozenset({"last_log_index", "last_log_term"}),
    "response_vote": frozenset(),
    "pre_vote": frozenset({"last_log_index", "last_log_term"}),
    "response_pre_vote": frozenset({"campaign_term", "granted"}),
}


def lacks_keys(message: RaftMessage) -> list[str]:
    """The keys that a message of this type must have and that this one has not; empty for a good one."""
    return sorted(REQUIRED_KEYS[message["type"]] - message.keys())
