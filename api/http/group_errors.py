"""What requests about consumer groups and their instances are refused with.

Owns the codes (Confluent's where there is one), and how a coordinator's code becomes an answer that says what to do.
A code that means "ask again, nothing was done" becomes a `StaleRouteError`.
"""

from __future__ import annotations

from typing import Final

from api.http.errors import RETRIABLE, TOO_LARGE, ApiError, Outcome, StaleRouteError, bad_request
from wire.errors import ErrorCode

INSTANCE_NOT_FOUND: Final = 40403
GROUP_NOT_FOUND: Final = 40405
INSTANCE_EXISTS: Final = 40902
SUBSCRIBED_OTHERWISE: Final = 40903
NOT_ASSIGNED: Final = 40904
GROUP_NOT_EMPTY: Final = 40905
OTHER_PROTOCOL: Final = 40906
CONSUMER_CONFIG: Final = 42204
SHOWN_MAX: Final = 249

_NOT_HERE: Final = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})


def group_not_found(group_id: str) -> ApiError:
    message = f"there is no group {group_id[:SHOWN_MAX]!r}: it has no members and no committed offsets; check its name"
    return ApiError(404, GROUP_NOT_FOUND, message)


def group_not_empty(group_id: str, members_count: int) -> ApiError:
    have = "a member" if members_count == 1 else f"{members_count} members"
    message = (
        f"group {group_id[:SHOWN_MAX]!r} has {have} now: stop its consumers first; its offsets can be set and it can be"
        " deleted only while it is empty"
    )
    return ApiError(409, GROUP_NOT_EMPTY, message, details={"members_count": members_count})


def instance_not_found(group_id: str, instance_id: str) -> ApiError:
    message = (
        f"group {group_id[:SHOWN_MAX]!r} has no consumer instance {instance_id[:SHOWN_MAX]!r}: it was deleted, was not"
        " used for its timeout, or its coordinator has changed; make a new one, it goes on at the committed offsets"
    )
    return ApiError(404, INSTANCE_NOT_FOUND, message)


def consumer_config(message: str) -> ApiError:
    return ApiError(422, CONSUMER_CONFIG, message)


def coordinator_away(message: str) -> StaleRouteError:
    """Nothing was done: another node coordinates, or this one is about to."""
    return StaleRouteError(503, RETRIABLE, message)


def refused_by_coordinator(code: ErrorCode, group_id: str, *, members_count: int = 1) -> ApiError:
    """A code other than NONE, told to whoever administers a group."""
    if code in _NOT_HERE:
        return coordinator_away(f"group {group_id[:SHOWN_MAX]!r} is moving to another coordinator: try again")
    if code in (ErrorCode.NON_EMPTY_GROUP, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.REBALANCE_IN_PROGRESS):
        return group_not_empty(group_id, max(1, members_count))
    if code is ErrorCode.GROUP_ID_NOT_FOUND:
        return group_not_found(group_id)
    if code is ErrorCode.INVALID_COMMIT_OFFSET_SIZE:
        return ApiError(413, TOO_LARGE, "the offsets do not fit into one record of the offsets topic: commit fewer")
    if code is ErrorCode.COORDINATOR_NOT_AVAILABLE:
        message = "the coordinator could not make it safe in time: it may or may not take effect; look, then try again"
        return ApiError(503, RETRIABLE, message, outcome=Outcome.UNKNOWN)
    return bad_request(f"the coordinator refused: {code.name}")
