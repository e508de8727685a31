"""The failures that only a broker can tell: "nobody knows", "not at that offset", "not of this version".

A refusal (`RefusedError`) means that nothing was written. `OutcomeUnknownError` means that it may have been (S15): the
caller must not be told "failed".
"""

from wire.errors import ErrorCode, RefusedError


class OutcomeUnknownError(Exception):
    """The request may or may not have taken effect: a timeout, a lost leadership, a lost connection."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ForeignMetadataError(Exception):
    """The cluster's metadata is whole, and not in the format of this version: the node stops, and says what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            f"the cluster's metadata in the node's directory is not in the format of this version of Kraft ({detail}); "
            "nothing was changed. Start every node with the version that wrote it, or give this version an empty data "
            "directory: the data of versions under development is not carried over"
        )


class ExpectedOffsetError(RefusedError):
    """A conditional append met another log end offset than it expected; nothing was written."""

    def __init__(self, *, expected_offset: int, log_end_offset: int) -> None:
        super().__init__(
            ErrorCode.INVALID_REQUEST,
            f"expected_offset is {expected_offset} but the next offset is {log_end_offset}: nothing was written; "
            f"read from {expected_offset} on, then try again with expected_offset={log_end_offset}",
        )
        self.expected_offset = expected_offset
        self.log_end_offset = log_end_offset
