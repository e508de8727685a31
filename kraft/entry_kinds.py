"""The first byte of every entry of the log: whom it is for. A number, once written, is never given another meaning."""

from enum import IntEnum


class EntryKind(IntEnum):
    """0 and 1 are pysyncobj's; its 2 (membership) and 3 (version) are pickle and stay unused."""

    APPLICATION = 0
    NO_OP = 1
    VOTER_DIRECTORIES = 16

    @property
    def prefix(self) -> bytes:
        return bytes((self,))
