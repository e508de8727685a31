"""How a command ends when it does not succeed: one sentence on stderr and an exit code that a script can act on."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4  # exists already, or somebody else is at it
    UNAVAILABLE = 5  # nobody answered, no leader, timeout
    DENIED = 6
    INTERRUPTED = 130


class Failure(Exception):  # noqa: N818 - it is the command's end, not a defect in it
    """Ends the command: `message` for the person, `exit_code` for the script."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class NothingCameFailure(Failure):
    """A reader has waited for as long as it was told to."""
