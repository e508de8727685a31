"""What a follower does with a leader's entries: the log matching rule (Raft, section 5.3), with its guards.

Owns the only place where a follower's log is cut. Invariants: an entry that matches is never cut, whatever the order
in which messages arrive; a committed entry is never cut (an assert: then the cluster has diverged, and this node must
stop).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kraft.journal import DurableJournal, Entry


@dataclass(frozen=True, slots=True)
class Matched:
    """The logs are equal up to `match_index`: all that a commit index may be applied to."""

    match_index: int


@dataclass(frozen=True, slots=True)
class Mismatched:
    """The entry before the new ones is not here. The logs agree at most up to `agreed_at_most`, of our term `term`."""

    agreed_at_most: int
    term: int


def are_contiguous(prev_index: int, entries: Sequence[Entry]) -> bool:
    """Whether these can follow `prev_index`: anything else never came from a leader."""
    return all(entry[1] == prev_index + 1 + position for position, entry in enumerate(entries))


def match_entries(
    journal: DurableJournal, commit_index: int, prev_index: int, prev_term: int, entries: Sequence[Entry]
) -> Matched | Mismatched:
    """Bring the journal to agree with the leader's from `prev_index` on, or say where it may."""
    if prev_index <= commit_index:
        # Every leader holds what is committed (leader completeness), so here the logs agree, compacted away or not.
        assert journal.term_at(prev_index) in {None, prev_term}, f"the leader's log differs at {prev_index}, committed"
        covered = commit_index - prev_index
        _assert_agreement(journal, entries[:covered])
        if len(entries) <= covered:
            return Matched(commit_index)
        entries = entries[covered:]
    elif journal.term_at(prev_index) != prev_term:
        agreed_at_most = journal.last_agreement(prev_index, prev_term)
        if agreed_at_most == prev_index:
            agreed_at_most -= 1
        agreed_at_most = max(agreed_at_most, commit_index)
        return Mismatched(agreed_at_most, journal.term_at(agreed_at_most) or 0)
    last_index = entries[-1][1] if entries else prev_index
    _append_missing(journal, commit_index, entries)
    return Matched(last_index)


def _append_missing(journal: DurableJournal, commit_index: int, entries: Sequence[Entry]) -> None:
    for position, (_command, index, term) in enumerate(entries):
        if journal.term_at(index) == term:
            continue
        if index <= journal.last_index:
            assert index > commit_index, f"the leader's log differs at the committed entry {index}"
            journal.truncate_from(index)
        for missing_command, missing_index, missing_term in entries[position:]:
            journal.add(missing_command, missing_index, missing_term)
        return


def _assert_agreement(journal: DurableJournal, entries: Sequence[Entry]) -> None:
    for _command, index, term in entries:
        own_term = journal.term_at(index)
        assert own_term in {None, term}, f"the leader's log differs at the committed entry {index}"
