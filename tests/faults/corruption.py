"""Bytes of a stopped node's files that are not what they were: flipped, zeroed, cut off, or whole files gone.

Owns the choice of file and place, and the way back (`Damage.take_back`), which is what an operator's backup is. Refuses
nothing; the node has to notice. Never touches the node's configuration or identity files.
"""

import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

ZEROED_BYTES = 512
SEGMENT_WEIGHT = 4
KINDS = {
    "segment": "data/{topic}-*/*.log",
    "index": "data/{topic}-*/*index",
    "checkpoint": "data/*checkpoint",
    "epochs": "data/{topic}-*/leader-epoch-checkpoint",
    "journal": "metadata/journal*",
}


@dataclass(frozen=True, slots=True)
class Damage:
    what: str
    file: Path
    kind: str
    _copy: Path

    def take_back(self) -> None:
        """The file as it was before."""
        shutil.copy2(self._copy / self.file.name, self.file)

    def close(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)


def corrupt(node_directory: Path, topic: str, chance: random.Random, only: str | None = None) -> Damage:
    """Change one file; `only` names a kind of `KINDS`."""
    candidates = {
        kind: sorted(file for file in node_directory.glob(pattern.format(topic=topic)) if file.stat().st_size)
        for kind, pattern in KINDS.items()
        if only in (None, kind)
    }
    kinds = [kind for kind, files in candidates.items() if files]
    kind = chance.choices(kinds, [SEGMENT_WEIGHT if kind == "segment" else 1 for kind in kinds])[0]
    file = chance.choice(candidates[kind])
    copy = Path(tempfile.mkdtemp(prefix="kraft-damage-", dir=node_directory.parent))
    shutil.copy2(file, copy)
    how = chance.choice((flip, zero, shorten) if kind in {"segment", "journal"} else (flip, zero, shorten, delete))
    how(file, chance)
    return Damage(f"{kind} {how.__name__}", file, kind, copy)


def flip(file: Path, chance: random.Random) -> None:
    """One bit."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def zero(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    at = chance.randrange(len(content))
    content[at : at + ZEROED_BYTES] = bytes(len(content[at : at + ZEROED_BYTES]))
    file.write_bytes(content)


def shorten(file: Path, chance: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content))])


def delete(file: Path, _: random.Random) -> None:
    file.unlink()
