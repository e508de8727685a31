"""One node in the foreground: `python -P -m kraft_bundle.server ARGS`, which is how `kraft node` starts it.

A process of its own, because a node is stopped, killed and measured by its pid. `-P` keeps the folder that it is
started in off `sys.path`.
"""

import sys

from kraft_bundle.launcher import put_rooms_first


def main() -> None:
    """Run `api.server.main(argv)` and exit with the code that it returns."""
    put_rooms_first()
    from api.server import main as node  # noqa: PLC0415 - only importable once the path is set

    sys.exit(node(sys.argv[1:]))


if __name__ == "__main__":
    main()
