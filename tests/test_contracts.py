"""The import contracts of pyproject.toml hold because breaking each one is reported: seen here, on a tree of their own.

The rooms of that tree are empty but for the line that breaks a contract, so this says nothing about the real rooms:
`scripts/check` does.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]

VIOLATIONS = [
    ("layers", {"wire/__init__.py": "import broker"}),
    ("layers", {"metadata/__init__.py": "import kraft"}),
    ("layers", {"kraft/__init__.py": "import metadata"}),
    ("layers", {"logstore/__init__.py": "import kraft"}),
    ("layers", {"broker/__init__.py": "import api"}),
    ("layers", {"api/__init__.py": "import cli"}),
    ("layers", {"cli/__init__.py": "import api"}),
    ("pure-rooms", {"wire/__init__.py": "import time"}),
    ("pure-rooms", {"metadata/__init__.py": "from random import Random"}),
    ("pure-rooms", {"metadata/__init__.py": "import os.path"}),
    ("pure-cores", {"broker/purgatory.py": "import asyncio"}),
    ("pure-cores", {"broker/replication/leader.py": "import time"}),
    ("log-is-driven", {"logstore/__init__.py": "import threading"}),
    ("log-is-driven", {"logstore/__init__.py": "from time import monotonic"}),
    ("disk-port", {"logstore/__init__.py": "import os"}),
    ("http-is-a-door", {"broker/__init__.py": "import aiohttp"}),
    ("raft-library", {"broker/__init__.py": "from pysyncobj import SyncObj"}),
    ("no-pickle", {"kraft/__init__.py": "def late():\n    import pickle"}),
    ("light-client", {"cli/__init__.py": "def late():\n    from aiohttp import ClientSession"}),
    ("light-client", {"cli/__init__.py": "import broker", "broker/__init__.py": "import aiohttp"}),
]


def module_file(tree: Path, module: str) -> Path:
    parts = module.split(".")
    return tree.joinpath(*parts, "__init__.py") if len(parts) == 1 else tree.joinpath(*parts).with_suffix(".py")


def empty_rooms(tree: Path) -> None:
    """Every module that a contract names, with nothing in it but the imports that a contract excepts."""
    named = [module for contract in SETTINGS["contracts"] for module in contract.get("source_modules", [])]
    excepted = [line.split(" -> ") for contract in SETTINGS["contracts"] for line in contract.get("ignore_imports", [])]
    for module in [*SETTINGS["root_packages"], *named, *(importer for importer, _ in excepted)]:
        file = module_file(tree, module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        for folder in file.relative_to(tree).parents[:-1]:
            (tree / folder / "__init__.py").touch()
    for importer, imported in excepted:
        with module_file(tree, importer).open("a", encoding="utf-8") as file:
            file.write(f"import {imported}\n")
    (tree / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")


def lint_imports(tree: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    wide = os.environ | {"COLUMNS": "200"}  # a contract's name and its verdict stay on one line
    ended = subprocess.run(command, cwd=tree, env=wide, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_empty_rooms_keep_every_contract(tmp_path):
    empty_rooms(tmp_path)
    code, output = lint_imports(tmp_path)
    assert 0 == code, output


@pytest.mark.parametrize(("contract", "lines"), VIOLATIONS)
def test_a_broken_contract_is_reported(tmp_path, contract, lines):
    empty_rooms(tmp_path)
    for file, line in lines.items():
        (tmp_path / file).write_text(line + "\n", encoding="utf-8")
    name = next(entry["name"] for entry in SETTINGS["contracts"] if entry["id"] == contract)
    code, output = lint_imports(tmp_path)
    assert 1 == code, output
    assert f"{name} BROKEN" in output


def test_every_contract_has_been_seen_broken():
    assert {entry["id"] for entry in SETTINGS["contracts"]} == {contract for contract, _ in VIOLATIONS}
