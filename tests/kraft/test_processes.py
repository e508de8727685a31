"""kill -9 of real processes with real files: whatever was acknowledged is on every voter, once, in one order (S16)."""

import asyncio
import errno
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cli.ports import free_ports
from tests.kraft.quorum_harness import until


class Child:
    """A voter's process and everything that it said."""

    def __init__(self, process: asyncio.subprocess.Process, acked: set[str]) -> None:
        self.process = process
        self.acked = acked
        self.leads = False
        self.term = 0
        self.answers: asyncio.Queue[dict] = asyncio.Queue()
        self.failure: dict | None = None
        self.reading = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            if not line.endswith(b"\n"):
                return  # killed in the middle of a line
            news = json.loads(line)
            if "acked" in news:
                self.acked.add(news["acked"])
            elif "leads" in news:
                self.leads, self.term = news["leads"], news["term"]
            elif "failure" in news:
                self.failure = news
            else:
                await self.answers.put(news)

    async def order(self, **order: object) -> dict:
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(40):
            return await self.answers.get()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.reading
        self.leads = False


class Voters:
    """Three processes, and the parent's record of what they acknowledged."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.ports = dict(enumerate(free_ports(3), start=1))
        self.children: dict[int, Child] = {}
        self.incarnations = itertools.count(1)
        self.acked: set[str] = set()
        self.directories: dict[int, Path] = {}

    async def start(self, node_id: int) -> None:
        spec = {
            "node_id": node_id,
            "producer": f"{node_id}-{next(self.incarnations)}",
            "ports": self.ports,
            "directory": str(self.directories.get(node_id, self.directory / f"node-{node_id}")),
            "snapshot_entries": self.random.randint(200, 1000),
            "retained_entries": self.random.choice([0, 20, 500]),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.kraft.quorum_process",
            json.dumps(spec),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.children[node_id] = Child(process, self.acked)

    async def start_all(self) -> None:
        await asyncio.gather(*(self.start(node_id) for node_id in self.ports if node_id not in self.children))

    async def kill(self, *node_ids: int) -> None:
        await asyncio.gather(*(self.children.pop(node_id).kill() for node_id in node_ids))

    async def leader(self) -> int:
        """The one that leads in the highest term."""
        await until(lambda: any(child.leads for child in self.children.values()), within_s=30, what="a leader")
        return max(self.children, key=lambda node_id: (self.children[node_id].leads, self.children[node_id].term))

    async def acknowledge_more(self, count: int) -> None:
        target = len(self.acked) + count
        await until(lambda: len(self.acked) >= target, within_s=40, what=f"{count} more acknowledged")

    async def check(self) -> dict:
        """All voters up and quiet: acknowledged commands are everywhere, nothing twice, one order."""
        await self.start_all()
        for child in self.children.values():
            await child.order(do="quiet")
        index = None
        while index is None:
            leader = await self.leader()
            index = (await self.children[leader].order(do="barrier"))["barrier"]
        states = [await child.order(do="state", index=index) for child in self.children.values()]
        assert 1 == len({(state["count"], state["digest"]) for state in states}), "one order on all"
        assert all(state["twice"] == [] for state in states), "applied at most once"
        present = {
            f"{producer}/{number}"
            for producer, ranges in states[0]["ranges"].items()
            for first, last in ranges
            for number in range(first, last + 1)
        }
        assert set() == self.acked - present, "acknowledged, and lost"
        return {"acknowledged": len(self.acked), "applied": states[0]["count"]}

    async def stop(self) -> None:
        for child in self.children.values():
            if child.process.returncode is None:
                child.process.stdin.close()
        for child in self.children.values():
            try:
                async with asyncio.timeout(10):
                    await child.process.wait()
            except TimeoutError:
                pass
            await child.kill()


@pytest.fixture
async def voters(tmp_path, request):
    seed = getattr(request, "param", None) or random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  # whoever sees it fail needs it
    voters = Voters(tmp_path, seed)
    yield voters
    await voters.stop()


async def kill_some(voters: Voters, whom: str) -> None:
    leader = await voters.leader()
    followers = [node_id for node_id in voters.children if node_id != leader]
    victims = {
        "leader": [leader],
        "follower": followers[:1],
        "two": [leader, *followers[:1]],
        "all": [leader, *followers],
    }[whom]
    await voters.kill(*victims)


async def test_a_few_kills_lose_nothing_that_was_acknowledged(voters):
    await voters.start_all()
    for whom in ("leader", "follower", "all"):
        await voters.acknowledge_more(300)
        await kill_some(voters, whom)
        await voters.start_all()
    await voters.acknowledge_more(300)
    result = await voters.check()
    assert result["acknowledged"] >= 1200


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_hundred_kills_lose_nothing_that_was_acknowledged(voters):
    await voters.start_all()
    for _ in range(120):
        await voters.acknowledge_more(voters.random.randint(1, 1500))
        whom = voters.random.choices(["leader", "follower", "two", "all"], [5, 3, 1, 1])[0]
        await kill_some(voters, whom)
        if voters.random.random() < 0.5 and whom in ("leader", "follower"):
            await voters.acknowledge_more(voters.random.randint(1, 500))
        await voters.start_all()
    result = await voters.check()
    print(f"120 rounds of kills: {result}")  # noqa: T201  # a run with few acknowledgements proves nothing


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB; skips where this process may not mount one."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(filler: Path) -> None:
    """Write until nothing more fits."""
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
    while os.statvfs(filler).f_bavail:
        os.write(descriptor, bytes(4096))
    os.close(descriptor)


async def test_a_full_disk_stops_its_voter_and_loses_nothing(voters, small_disk):
    """ENOSPC on one voter: it stops and says why; the others go on; with space again it comes back and catches up."""
    voters.directories[1] = small_disk / "node-1"
    await voters.start_all()
    await voters.acknowledge_more(200)
    filler = small_disk / "filler"
    fill(filler)
    full = voters.children[1]
    await until(lambda: full.failure is not None, within_s=30, what="the voter with the full disk stops")
    assert errno.ENOSPC == full.failure["errno"]
    await full.process.wait()
    await voters.kill(1)
    await voters.acknowledge_more(200)
    filler.unlink()
    await voters.start_all()
    await voters.acknowledge_more(200)
    await voters.check()
