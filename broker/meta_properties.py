"""Who a data directory belongs to: `meta.properties`, and `formation.properties` for the first start of a quorum.

`meta.properties` (Kafka's name and keys) binds a directory to a cluster, a node and a directory id; a node refuses any
other's. `formation.properties` holds the directory ids of all first voters, so that they can trust each other before
the quorum has committed anything (an empty voter must not vote, S16). Both are written whole or not at all: to a
temporary file, synced, renamed, folder synced.
"""

import base64
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.config_file import properties_settings
from broker.config_values import ConfigError

META_PROPERTIES: Final = "meta.properties"
FORMATION_PROPERTIES: Final = "formation.properties"
_VOTER_PREFIX: Final = "voter."
_VOTER_SUFFIX: Final = ".directory.id"


@dataclass(frozen=True, slots=True)
class MetaProperties:
    """The identity of one node's data directory; `cluster_id` is 22 characters of base64url, as Kafka's."""

    cluster_id: str
    node_id: int
    directory_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Formation:
    """The first voters of a cluster and the ids of their directories."""

    cluster_id: str
    voter_directories: Mapping[int, uuid.UUID]


def new_cluster_id() -> str:
    """A random cluster id in Kafka's form; never one that begins with `-`, which a shell would take for an option."""
    while (text := id_to_text(uuid.uuid4())).startswith("-"):
        pass
    return text


def id_to_text(value: uuid.UUID) -> str:
    """22 characters of base64url, as Kafka writes uuids."""
    return base64.urlsafe_b64encode(value.bytes).rstrip(b"=").decode()


def read_meta_properties(directory: Path) -> MetaProperties | None:
    """The directory's identity, or None where it was never formatted; raises ConfigError where it can't be read."""
    path = directory / META_PROPERTIES
    if (found := _read(path)) is None:
        return None
    if found.get("version", "1") != "1":
        raise ConfigError(
            f"{path}: version={found['version']} was written by another release; this one reads version 1"
        )
    node_id = _require(found, "node.id", path)
    if not node_id.isdecimal():
        raise ConfigError(f"{path}: node.id={node_id} is no whole number; restore the file from a backup")
    return MetaProperties(
        cluster_id=_require(found, "cluster.id", path),
        node_id=int(node_id),
        directory_id=_read_id(_require(found, "directory.id", path), "directory.id", path),
    )


def write_meta_properties(directory: Path, identity: MetaProperties) -> None:
    """Format a directory; raises ConfigError where it already has another identity."""
    present = read_meta_properties(directory)
    if present is not None and present != identity:
        raise ConfigError(f"{directory}: already formatted for node {present.node_id} of cluster {present.cluster_id}")
    lines = [
        "version=1",
        f"cluster.id={identity.cluster_id}",
        f"node.id={identity.node_id}",
        f"directory.id={id_to_text(identity.directory_id)}",
    ]
    _write(directory / META_PROPERTIES, "Identity of this data directory; never edit or copy it.", lines)


def check_meta_properties(directory: Path, identity: MetaProperties, *, node_id: int, cluster_id: str | None) -> None:
    """Refuse a directory of another node or cluster; `cluster_id` None where the configuration pins none."""
    if identity.node_id != node_id:
        raise ConfigError(
            f"{directory} belongs to node {identity.node_id}, but node.id is {node_id}; "
            "point log.dirs and node.directory to this node's own directory"
        )
    if cluster_id is not None and identity.cluster_id != cluster_id:
        raise ConfigError(
            f"{directory} belongs to cluster {identity.cluster_id}, but cluster.id is {cluster_id}; use another one"
        )


def identify_directory(path: Path, *, cluster_id: str, node_id: int) -> uuid.UUID:
    """The id of one log directory, which a new disk at the same path does not have; raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        identity = read_meta_properties(path)
        if identity is None:
            identity = MetaProperties(cluster_id, node_id, uuid.uuid4())
            write_meta_properties(path, identity)
    except OSError as error:
        raise ConfigError(
            f"log.dirs: {path} can't be used ({error.strerror}): mend the disk, or take it off the list and accept "
            "that what lay there is unavailable"
        ) from error
    check_meta_properties(path, identity, node_id=node_id, cluster_id=cluster_id)
    return identity.directory_id


def read_formation(directory: Path) -> Formation | None:
    """The first voters, or None where the directory was not part of a formation."""
    path = directory / FORMATION_PROPERTIES
    if (found := _read(path)) is None:
        return None
    voters = {}
    for key, value in found.items():
        number = key.removeprefix(_VOTER_PREFIX).removesuffix(_VOTER_SUFFIX)
        if key.startswith(_VOTER_PREFIX) and key.endswith(_VOTER_SUFFIX) and number.isdecimal():
            voters[int(number)] = _read_id(value, key, path)
    if not voters:
        raise ConfigError(f"{path}: names no voter; restore the file from another node of the cluster")
    return Formation(_require(found, "cluster.id", path), voters)


def write_formation(directory: Path, formation: Formation) -> None:
    """Tell a directory who the first voters are."""
    lines = [f"cluster.id={formation.cluster_id}"]
    for node_id, directory_id in sorted(formation.voter_directories.items()):
        lines.append(f"{_VOTER_PREFIX}{node_id}{_VOTER_SUFFIX}={id_to_text(directory_id)}")
    _write(
        directory / FORMATION_PROPERTIES, "The first voters of the cluster; read until the quorum knows them.", lines
    )


def forget_formation(directory: Path) -> None:
    """The quorum has it now. A directory that loses its journal later must not form the cluster again (S16)."""
    (directory / FORMATION_PROPERTIES).unlink(missing_ok=True)
    _sync_folder(directory)


def format_directory(
    directory: Path, *, cluster_id: str, node_id: int, voter_directories: Mapping[int, uuid.UUID]
) -> MetaProperties:
    """Make one node's directory ready for its first start. A voter's own id stands in `voter_directories`.

    The formation comes first: a directory with `meta.properties` is formatted completely.
    """
    directory.mkdir(parents=True, exist_ok=True)
    identity = MetaProperties(cluster_id, node_id, voter_directories.get(node_id) or uuid.uuid4())
    write_formation(directory, Formation(cluster_id, voter_directories))
    write_meta_properties(directory, identity)
    return identity


def _read(path: Path) -> dict[str, str] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None
    return {setting.key: setting.value for setting in properties_settings(text, path)}


def _require(found: Mapping[str, str], key: str, path: Path) -> str:
    if value := found.get(key):
        return value
    raise ConfigError(f"{path}: {key} is missing; restore the file from a backup")


def _read_id(text: str, key: str, path: Path) -> uuid.UUID:
    try:
        return uuid.UUID(bytes=base64.urlsafe_b64decode(text + "=="))
    except ValueError:
        raise ConfigError(f"{path}: {key}={text} is no id of 22 characters; restore the file from a backup") from None


def _write(path: Path, title: str, lines: list[str]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write("\n".join([f"# {title}", *lines, ""]))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
