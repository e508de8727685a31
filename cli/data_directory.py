"""The folder of a cluster on this machine: `cluster.json`, and a folder for each node.

Layout: `kraft-data/cluster.json` and `kraft-data/node-1/` with server.properties, kraft.log, pid, meta.properties,
metadata/ and data/. Owns who may change it: one `up`, `down` or `purge` at a time holds its lock. Refuses to delete a
folder that is not ours.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cli.failure import ExitCode, Failure

FORMAT_VERSION: Final = 1
HOST: Final = "127.0.0.1"
_LISTENERS_KEY: Final = re.compile(r"^[ \t]*listeners[ \t]*[=: \t]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node of a local cluster and the ports that it keeps for life."""

    node_id: int
    http_port: int
    kafka_port: int
    peer_port: int
    is_voter: bool
    directory: Path

    @property
    def config_file(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.directory / "kraft.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def kafka(self) -> str:
        return f"{HOST}:{self.kafka_port}"

    @property
    def peer(self) -> str:
        return f"{HOST}:{self.peer_port}"


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """What `cluster.json` says."""

    cluster_id: str
    directory: Path
    nodes: tuple[LocalNode, ...]


def read_cluster(directory: Path) -> LocalCluster | None:
    """The cluster in this folder, or None where there is none."""
    path = directory / "cluster.json"
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["format_version"] != FORMAT_VERSION:
            raise Failure(f"{path} was written by another release of kraft (format {document['format_version']})")
        nodes = tuple(
            LocalNode(**entry, directory=directory.absolute() / f"node-{entry['node_id']}")
            for entry in document["nodes"]
        )
        return LocalCluster(document["cluster_id"], directory.absolute(), nodes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", ExitCode.DENIED) from None
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{path} is damaged; each node's ports are in its server.properties, restore it from those"
        ) from None


def require_cluster(directory: Path) -> LocalCluster:
    """The cluster in this folder; ends the command where there is none."""
    if (cluster := read_cluster(directory)) is None:
        raise Failure(
            f"no cluster in {shown(directory)}: start one with `kraft up`, or name its folder with --data-dir",
            ExitCode.NOT_FOUND,
        )
    return cluster


def nodes_of(cluster: LocalCluster, node_ids: Sequence[int]) -> list[LocalNode]:
    """The nodes of these ids, all where none is given; ends the command where there is no such node."""
    by_id = {node.node_id: node for node in cluster.nodes}
    for node_id in node_ids:
        if node_id not in by_id:
            known = ", ".join(map(str, by_id))
            raise Failure(f"{shown(cluster.directory)} has no node {node_id}: it has {known}", ExitCode.NOT_FOUND)
    return [by_id[node_id] for node_id in dict.fromkeys(node_ids)] or list(cluster.nodes)


def write_cluster(cluster: LocalCluster) -> None:
    """Write `cluster.json` whole."""
    nodes = [{name: value for name, value in asdict(node).items() if name != "directory"} for node in cluster.nodes]
    document = {"format_version": FORMAT_VERSION, "cluster_id": cluster.cluster_id, "nodes": nodes}
    path = cluster.directory / "cluster.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def add_kafka_listener(node: LocalNode) -> None:
    """A node's file from before there was a Kafka listener gets one, on the port that was kept for it."""
    try:
        text = node.config_file.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return  # whoever starts the node says what is wrong
    if _LISTENERS_KEY.search(text) is None:
        ended = "" if text.endswith("\n") else "\n"
        with node.config_file.open("a", encoding="utf-8") as file:
            file.write(f"{ended}listeners=PLAINTEXT://{node.kafka}\n")


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the folder's lock: two `up` at once would start every node twice. The system drops it with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Failure(
            f"another kraft up, down or purge is at work on {shown(directory)}; try again when it is done",
            ExitCode.CONFLICT,
        ) from None
    finally:
        os.close(descriptor)


def delete_node(cluster: LocalCluster, node: LocalNode) -> LocalCluster:
    """Take a stopped node out of the cluster's file, and delete its folder; the cluster without it."""
    left = replace(cluster, nodes=tuple(other for other in cluster.nodes if other != node))
    write_cluster(left)
    if node.directory.exists():
        shutil.rmtree(node.directory)
    return left


def delete_cluster(cluster: LocalCluster, *, keep_folder: bool = False) -> None:
    """Delete what `up` made; the folder itself only when nothing else lies in it."""
    for node in cluster.nodes:
        if node.directory.exists():
            shutil.rmtree(node.directory)
    (cluster.directory / "cluster.json").unlink()  # last: an interrupted purge can be repeated
    if not keep_folder and not any(cluster.directory.iterdir()):
        cluster.directory.rmdir()


def make_directory(directory: Path) -> bool:
    """Make the folder where it is not there yet; True when it was made now. Refuses one full of something else."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise Failure(f"{shown(directory)} is a file; name a folder with --data-dir") from None
        return False
    except OSError as error:
        raise Failure(f"{shown(directory)} can't be made: {error.strerror}", ExitCode.DENIED) from None
    return True


def require_empty(directory: Path) -> None:
    """Refuse to put a cluster among other things."""
    others = [
        entry.name for entry in directory.iterdir() if not entry.name.startswith(".") and entry.name != "lost+found"
    ]
    if others:
        raise Failure(
            f"{shown(directory)} holds no cluster but other things ({min(others)}); name another with --data-dir",
            ExitCode.CONFLICT,
        )


def shown(path: Path) -> str:
    """A path as a person in the working directory would write it."""
    try:
        relative = path.absolute().relative_to(Path.cwd())
    except ValueError:
        return str(path)
    return f"./{relative}"
