"""The fuzzer finds the bugs that quorums have had (quorum_mutants.py); it would prove little if it did not."""

import pytest

from tests.kraft import test_core_replication
from tests.kraft.quorum_mutants import MUTANTS, hunt, older_terms_are_counted


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_bug_of_the_quorum_is_found(mutant):
    assert hunt(mutant) is not None, f"{mutant.what}: not found in {mutant.seeds} seeds"


def test_a_leader_that_counts_older_terms_is_found():
    with older_terms_are_counted(), pytest.raises(AssertionError, match="of an older term"):
        test_core_replication.test_an_entry_of_an_older_term_is_committed_only_by_one_of_the_leaders_own()
