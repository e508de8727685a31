"""Build hook of the wheel: carries the rooms inside `kraft_bundle/`, in the standard wheel only.

An editable install must get nothing from here: hatchling copies force-included files into it, and the copies would
hide every later edit of the checkout. See docs/decisions/0002-one-application-in-a-wheel.md.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig

ROOMS = ("api", "broker", "cli", "kraft", "logstore", "metadata", "wire")


class RoomsInsideTheBundle(BuildHookInterface[WheelBuilderConfig]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for room in ROOMS:
            folder = Path(self.root, room)
            if not (folder / "__init__.py").is_file():
                message = f"{folder} is no package: the wheel would lack a room"
                raise FileNotFoundError(message)
            build_data["force_include"][str(folder)] = f"kraft_bundle/{room}"
