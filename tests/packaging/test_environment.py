"""What scripts/environment.sh does on a machine that lacks something: no network, and the .venv here is not touched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "a checkout"  # a path with a space in it
    (copy / "scripts").mkdir(parents=True)
    for name in ("scripts/environment.sh", "pyproject.toml"):
        shutil.copy(PROJECT / name, copy / name)
    return copy


def only_tools(folder: Path, **pythons: str) -> str:
    """A PATH with what every machine has, and of Python just what is given: name -> shell line."""
    folder.mkdir()
    for tool in ("bash", "cat", "head", "tail", "awk", "cksum", "dirname", "mkdir", "rm", "flock"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    for name, line in pythons.items():
        file = folder / name.replace("_", ".")
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)
    return str(folder)


def environment(checkout: Path, path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    script = '. scripts/environment.sh; environment run; echo "made in $ENVIRONMENT_BIN"'
    clean = {"PATH": path, "HOME": os.environ.get("HOME", "/"), **variables}
    return subprocess.run(["bash", "-c", script], cwd=checkout, env=clean, capture_output=True, text=True, check=False)


def test_an_old_python_is_named_as_the_reason(checkout, tmp_path):
    ended = environment(checkout, only_tools(tmp_path / "bin", python3="exit 1"))
    assert 1 == ended.returncode
    assert "needs Python 3.11 or newer; tried: python3.11 python3.12" in ended.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_names_the_package_to_install(checkout, tmp_path):
    without_venv = f'case "$2" in *ensurepip*) exit 1;; *) exec "{sys.executable}" "$@";; esac'
    ended = environment(checkout, only_tools(tmp_path / "bin", python3_11=without_venv))
    assert 1 == ended.returncode
    major, minor = sys.version_info[:2]
    assert f"apt install python{major}.{minor}-venv" in ended.stderr


def test_an_install_that_fails_is_tried_again_and_says_why(checkout, tmp_path):
    # python3.11 is there as a version manager's shim for a version that is not: it is passed over.
    path = only_tools(tmp_path / "bin", python3_11="exit 127", python3=f'exec "{sys.executable}" "$@"')
    for _ in range(2):
        ended = environment(checkout, path, PIP_NO_INDEX="1")
        assert 1 == ended.returncode
        assert "pip could not install the dependencies" in ended.stderr
        assert "made in" not in ended.stdout
    assert not (checkout / ".venv/.kraft-run").exists()


def test_a_finished_environment_is_not_touched_again(checkout, tmp_path):
    path = only_tools(tmp_path / "bin")
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    stamp = subprocess.run(
        ["bash", "-c", ". scripts/environment.sh; environment_stamp"],
        cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (checkout / ".venv/.kraft-run").write_text(stamp)
    ended = environment(checkout, path)
    assert (0, "") == (ended.returncode, ended.stderr)
    assert f"made in {checkout}/.venv/bin" == ended.stdout.strip()


def test_a_copied_checkout_makes_an_environment_of_its_own(checkout, tmp_path):
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/kraft").write_text("#!/elsewhere/.venv/bin/python\n")
    (checkout / ".venv/.kraft-run").write_text("/elsewhere\n0 0\n")
    path = only_tools(tmp_path / "bin", python3=f'exec "{sys.executable}" "$@"')
    environment(checkout, path, PIP_NO_INDEX="1")
    assert (checkout / ".venv/bin/pip").exists()
    assert not (checkout / ".venv/bin/kraft").exists()
