"""The first files of a voter's metadata directory, and the way back into it at every later start.

Two ways in. A cluster is formed: every voter is formatted with the same `initial_directories`, which become the same
first entry of each log, committed from the start. Or a voter lost its directory: it starts from nothing under a
directory id that nobody has ever seen, and is not seated until the leader has committed that id
(kraft/voter_directories.py).

Invariant: the journal is created last; a directory with a journal has a term and vote, and one that lost either is
damaged and refused.
"""

from collections.abc import Callable
from uuid import UUID, uuid4

from kraft import journal as journal_file
from kraft.disk import Disk
from kraft.entry_kinds import EntryKind
from kraft.errors import DamagedError
from kraft.journal import DurableJournal, Entry
from kraft.quorum_config import QuorumConfig
from kraft.term_and_vote import TermAndVote
from kraft.voter_directories import encode_changes, formation

BASE_ENTRY: Entry = (EntryKind.NO_OP.prefix, 1, 0)
"""Index 1 carries nothing: every log begins with it, so two logs always agree somewhere."""


def open_journal(config: QuorumConfig, disk: Disk, *, new_id: Callable[[], UUID] = uuid4) -> DurableJournal:
    """Open what is there, or format an empty directory; raises DamagedError where something is missing or wrong."""
    term_and_vote = TermAndVote.load(disk)
    if disk.read(journal_file.FILE_NAME) is None:
        if term_and_vote is not None and (term_and_vote.term, term_and_vote.voted_for) != (0, None):
            raise DamagedError(disk.path(journal_file.FILE_NAME), "the journal is missing")
        term_and_vote = format_voter(config, disk, new_id=new_id)
    if term_and_vote is None:
        raise DamagedError(disk.path("term-and-vote"), "the term and vote are missing")
    return DurableJournal(disk, term_and_vote)


def format_voter(config: QuorumConfig, disk: Disk, *, new_id: Callable[[], UUID] = uuid4) -> TermAndVote:
    """Create both files; durable when this returns."""
    term_and_vote = TermAndVote(disk, 0, None)
    term_and_vote.store(0, None)
    if config.initial_directories is None:
        # Not config.directory_id: whoever lost only this directory would come back under an id that is still seated.
        DurableJournal.create(disk, new_id(), [BASE_ENTRY], 1)
        return term_and_vote
    assert config.initial_directories[config.node_id] == config.directory_id, (
        "initial_directories contradict directory_id"
    )
    payload = EntryKind.VOTER_DIRECTORIES.prefix + encode_changes(formation(config.initial_directories))
    DurableJournal.create(disk, config.directory_id, [BASE_ENTRY, (payload, 2, 0)], 2)
    return term_and_vote
