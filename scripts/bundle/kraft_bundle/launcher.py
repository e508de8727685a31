"""The `kraft` command: makes our rooms importable, then hands over to the command line.

Invariant: the folder that holds the rooms comes first on this process's own `sys.path` before any of them is imported,
so that another project's `api` or `metadata` (installed beside us, or named by PYTHONPATH) can never be taken for ours.
Nothing outside this process changes. Only the standard library's already loaded modules are imported here: this is on
the way of every `kraft --help`.
"""

import os
import sys


def rooms_folder() -> str:
    """The folder that holds `api`, `broker`, `cli` ...: this package in a wheel, the top of the checkout otherwise."""
    own_folder = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 - pathlib would be loaded for this alone
    if os.path.isdir(os.path.join(own_folder, "cli")):  # noqa: PTH112, PTH118 - as above
        return own_folder
    return os.path.realpath(os.path.join(own_folder, "..", "..", ".."))  # noqa: PTH118 - as above


def put_rooms_first() -> None:
    """Put `rooms_folder()` first on `sys.path`; a second call changes nothing."""
    folder = rooms_folder()
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)


def main() -> None:
    """Entry point of the console script: the whole command line, exit code included."""
    put_rooms_first()
    from cli.main import main as command_line  # noqa: PLC0415 - only importable once the path is set

    command_line()
