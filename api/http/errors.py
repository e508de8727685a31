"""What a failed request is told: one error body, one table from refusals to HTTP.

Owns the HTTP status and the `error_code` of every refusal (design: the codes of Confluent's REST, 503/50003 for what
is worth a retry) and the body `{"error_code","message"}`, with `outcome` on produce. Refuses to blame the server for
bad input, or a client for the server's damage: 500 is a bug, or what this server's disk has lost. S15: `not_written` is
said only where nothing was written, anything doubtful is `unknown`.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from broker.errors import ExpectedOffsetError, OutcomeUnknownError
from logstore.log_answers import DamagedRangeError, OffsetOutOfRangeError
from wire.errors import ErrorCode, RefusedError

RETRY_AFTER_S: Final = 1

BAD_REQUEST: Final = 40002
TOPIC_NOT_FOUND: Final = 40401
PARTITION_NOT_FOUND: Final = 40402
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
NOT_ACCEPTABLE: Final = 406
REQUEST_TIMEOUT: Final = 408
FENCED_PRODUCER: Final = 40302
OUT_OF_ORDER_SEQUENCE: Final = 40901
WRITTEN_BEFORE: Final = 40902
EXPECTED_OFFSET: Final = 41201
TOO_LARGE: Final = 413
OFFSET_OUT_OF_RANGE: Final = 41601
UNSUPPORTED_MEDIA_TYPE: Final = 415
PAYLOAD: Final = 42206
SERIALIZATION: Final = 42207
BATCH: Final = 42208
THROTTLED: Final = 42901
SERVER_ERROR: Final = 500
DAMAGED: Final = 50002
RETRIABLE: Final = 50003


class Outcome(enum.StrEnum):
    """What became of a produce that failed."""

    NOT_WRITTEN = "not_written"
    UNKNOWN = "unknown"
    WRITTEN = "written"
    """Before, by an idempotent produce that this one repeats; where is not known any more (S13)."""


MESSAGE_CHARACTERS_MAX: Final = 2000
"""A message may quote what a stranger sent; no answer is as long as that."""


class ApiError(Exception):
    """An answer that is not a success: status, code, message, and what else its body and headers carry."""

    def __init__(
        self,
        status: int,
        error_code: int,
        message: str,
        *,
        outcome: Outcome | None = None,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message if len(message) <= MESSAGE_CHARACTERS_MAX else f"{message[:MESSAGE_CHARACTERS_MAX]}..."
        self.outcome = outcome
        self.headers = headers or {}
        self.details = details or {}
        if status in (429, 503, 507):
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"error_code": self.error_code, "message": self.message, **self.details}
        if self.outcome is not None:
            body["outcome"] = self.outcome.value
        return body

    def with_outcome(self, outcome: Outcome) -> ApiError:
        """The same error, told to a producer."""
        self.outcome = self.outcome or outcome
        return self


class StaleRouteError(ApiError):
    """This node is not (or not quite yet) the leader that the request looked for: nothing was done; try again."""


_STATUS: Final[dict[ErrorCode, tuple[int, int]]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: (404, TOPIC_NOT_FOUND),
    ErrorCode.UNKNOWN_TOPIC_ID: (404, TOPIC_NOT_FOUND),
    ErrorCode.INCONSISTENT_TOPIC_ID: (404, TOPIC_NOT_FOUND),
    ErrorCode.OFFSET_OUT_OF_RANGE: (416, OFFSET_OUT_OF_RANGE),
    ErrorCode.MESSAGE_TOO_LARGE: (413, TOO_LARGE),
    ErrorCode.RECORD_LIST_TOO_LARGE: (413, TOO_LARGE),
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: (429, THROTTLED),
    ErrorCode.KAFKA_STORAGE_ERROR: (507, RETRIABLE),
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: (409, OUT_OF_ORDER_SEQUENCE),
    ErrorCode.INVALID_PRODUCER_EPOCH: (403, FENCED_PRODUCER),
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS: (404, NOT_FOUND),
    ErrorCode.UNKNOWN_SERVER_ERROR: (500, SERVER_ERROR),
}

_RETRIABLE: Final = frozenset(
    {
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.STALE_CONTROLLER_EPOCH,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.STALE_BROKER_EPOCH,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.BROKER_ID_NOT_REGISTERED,
        ErrorCode.LOG_DIR_NOT_FOUND,
        ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        ErrorCode.INELIGIBLE_REPLICA,
        ErrorCode.INVALID_UPDATE_VERSION,
    }
)

_STALE_ROUTE: Final = frozenset(
    {
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.OFFSET_NOT_AVAILABLE,
    }
)


def from_refusal(refused: RefusedError, *, outcome: Outcome | None = None) -> ApiError:
    """The answer for a refusal; a refusal that only means "ask again elsewhere" becomes a `StaleRouteError`."""
    if isinstance(refused, ExpectedOffsetError):
        details = {"expected_offset": refused.expected_offset, "log_end_offset": refused.log_end_offset}
        return ApiError(412, EXPECTED_OFFSET, refused.message, outcome=outcome, details=details)
    if isinstance(refused, OffsetOutOfRangeError):
        details = {"earliest_offset": refused.earliest, "latest_offset": refused.latest}
        return ApiError(416, OFFSET_OUT_OF_RANGE, refused.message, outcome=outcome, details=details)
    if isinstance(refused, DamagedRangeError):
        return damaged(refused.message, refused.offset, refused.next_offset)
    if refused.code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
        return ApiError(409, WRITTEN_BEFORE, refused.message, outcome=Outcome.WRITTEN)
    if refused.code in _RETRIABLE:
        kind = StaleRouteError if refused.code in _STALE_ROUTE else ApiError
        return kind(503, RETRIABLE, refused.message, outcome=outcome)
    status, error_code = _STATUS.get(refused.code, (400, BAD_REQUEST))
    return ApiError(status, error_code, refused.message, outcome=outcome)


def from_unknown_outcome(error: OutcomeUnknownError) -> ApiError:
    return ApiError(503, RETRIABLE, error.message, outcome=Outcome.UNKNOWN)


def damaged(message: str, offset: int, next_offset: int) -> ApiError:
    """What lies from `offset` on below `next_offset` cannot be read here; a reader goes on at `next_offset`."""
    return ApiError(500, DAMAGED, message, details={"offset": offset, "next_offset": next_offset})


def bad_request(message: str) -> ApiError:
    return ApiError(400, BAD_REQUEST, message)


def topic_not_found(name: str) -> ApiError:
    return ApiError(404, TOPIC_NOT_FOUND, f"topic {name!r} does not exist: create it, or check its name")


def partition_not_found(topic: str, partition: int | str, count: int) -> ApiError:
    return ApiError(404, PARTITION_NOT_FOUND, f"topic {topic!r} has no partition {partition}: it has 0 to {count - 1}")


def too_large(what: str, *, limit_bytes: int, fix: str) -> ApiError:
    return ApiError(413, TOO_LARGE, f"{what} is above {limit_bytes} bytes: {fix}")
