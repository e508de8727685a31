"""kraft/ stands on names that pysyncobj calls private: each must be there, in exactly the pinned version."""

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pysyncobj.pickle
import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj
from pysyncobj.journal import Journal

from kraft import pinned_syncobj
from kraft.core import Core
from kraft.journal import DurableJournal
from kraft.pinned_syncobj import PinnedSyncObj, Private
from tests.kraft.simulated_cluster import simulated

SOURCE = inspect.getsource(pysyncobj.syncobj)


def test_the_library_is_the_pinned_version():
    assert "0.3.17" == version("pysyncobj")


@pytest.mark.parametrize("private", [value for value in vars(PinnedSyncObj).values() if isinstance(value, Private)])
def test_every_private_attribute_still_exists(private):
    with simulated(3) as cluster:
        assert private.name in vars(cluster.core(1))
    assert f"self.__{private.name.removeprefix('_SyncObj__')} = " in SOURCE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"_SyncObj__\w+", inspect.getsource(pinned_syncobj)))))
def test_every_private_method_that_is_called_or_overridden_still_exists(name):
    assert name == "_SyncObj__" or callable(getattr(SyncObj, name))


@pytest.mark.parametrize("name", ["_onTick", "_checkCommandsToApply", "_doDestroy"])
def test_every_protected_method_that_is_used_still_exists(name):
    assert callable(getattr(SyncObj, name))


@pytest.mark.parametrize("name", ["createJournal", "monotonicTime", "random", "createPoller", "_RAFT_STATE"])
def test_every_name_of_the_module_that_is_used_still_exists(name):
    assert hasattr(pysyncobj.syncobj, name)
    assert name in SOURCE


def test_only_one_file_spells_the_librarys_private_names():
    package = Path(inspect.getfile(pinned_syncobj)).parent
    spelling = {path.name for path in package.glob("*.py") if "_SyncObj__" in path.read_text()}
    assert {"pinned_syncobj.py"} == spelling


def test_the_journal_has_everything_that_the_library_calls():
    used = set(re.findall(r"__raftLog\.(\w+)\(", SOURCE)) - {"clear", "deleteEntriesFrom", "deleteEntriesTo"}
    assert used <= {
        name for name in dir(DurableJournal) if getattr(DurableJournal, name) is not getattr(object, name, 0)
    }
    assert "onOneSecondTimer" in vars(Journal)
    assert len(SOURCE.split("deleteEntriesTo(")) == 4, "only behind hooks that are overridden"


def test_nothing_is_pickled_at_run_time(monkeypatch):
    """Elections, replication, a snapshot transfer, crashes and restarts without the library's pickle."""

    def never(*_arguments, **_keywords):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps"):
        monkeypatch.setattr(pysyncobj.pickle, name, never)
        monkeypatch.setattr(pysyncobj.pickle.pickle, name, never)
    with simulated(3, seed=1, snapshot_entries=20, retained_entries=2) as cluster:
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(behind)
        cluster.commit(*[b"%d" % number for number in range(100)])
        cluster.start(behind)
        cluster.converge()
        old = cluster.leader()
        cluster.crash(old)
        cluster.commit(b"last")
        cluster.start(old)
        cluster.converge()
        cluster.check_acknowledged()
        assert not [node.failures for node in cluster.nodes.values() if node.failures]


def test_the_librarys_own_commands_and_snapshots_cannot_be_reached():
    with simulated(1) as cluster:
        core = cluster.core(1)
        assert [] == dir(core), "no @replicated method is ever looked for"
        with pytest.raises(AssertionError):
            core._SyncObj__doApplyCommand(b"")
        with pytest.raises(AssertionError):
            core._SyncObj__loadDumpFile(clearJournal=True)


def test_the_library_still_creates_its_own_journals_for_others():
    assert 0 == len(pysyncobj.syncobj.createJournal(None))
    assert issubclass(Core, SyncObj)
