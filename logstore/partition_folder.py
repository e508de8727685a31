"""The name of a partition's folder, and the file inside that says the same in full.

`{topic_name}-{partition}.{topic id}`; where that is longer than a file name may be, the topic's name is cut and marked
with `~`, which no topic name contains. `partition.metadata` holds name, id and partition. Topic names are checked where
topics are made; here nothing that could leave the directory is accepted either.
"""

from typing import Final, NamedTuple
from uuid import UUID

from logstore.storage import Storage, read_whole_file, write_fully
from wire.identifiers import uuid_from_text, uuid_to_text

METADATA_FILE: Final = "partition.metadata"
NAME_BYTES_MAX: Final = 255
CUT_MARK: Final = "~"
DELETED_SUFFIX: Final = ".deleted"


class PartitionName(NamedTuple):
    topic_id: UUID
    topic_name: str
    partition: int


def folder_name(topic_id: UUID, topic_name: str, partition: int) -> str:
    assert "/" not in topic_name, "topic names are checked where topics are made"
    assert partition >= 0
    suffix = f"-{partition}.{uuid_to_text(topic_id)}"
    if len(topic_name.encode()) + len(suffix) > NAME_BYTES_MAX:
        topic_name = topic_name[: NAME_BYTES_MAX - len(suffix) - len(CUT_MARK)] + CUT_MARK
    return topic_name + suffix


def parse_folder_name(name: str) -> PartitionName | None:
    """What the name says, the topic's name perhaps cut; None for what is no partition folder."""
    stem, _, topic_id = name.rpartition(".")
    topic_name, _, partition = stem.rpartition("-")
    if not topic_name or not (partition.isascii() and partition.isdigit()):
        return None
    try:
        return PartitionName(uuid_from_text(topic_id), topic_name, int(partition))
    except ValueError:
        return None


def read_partition_name(storage: Storage, directory: str, folder: str) -> PartitionName | None:
    """As `parse_folder_name`, with the full topic name where the folder's is cut and the metadata file can be read."""
    name = parse_folder_name(folder)
    if name is None or not name.topic_name.endswith(CUT_MARK):
        return name
    try:
        text = read_whole_file(storage, f"{directory}/{folder}/{METADATA_FILE}").decode()
    except (OSError, UnicodeDecodeError):
        return name
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    full = fields.get("topic_name", "")
    return name._replace(topic_name=full) if full.startswith(name.topic_name[:-1]) else name


def write_metadata(storage: Storage, folder: str, name: PartitionName) -> str:
    """Write the metadata file, not synced; its path."""
    path = f"{folder}/{METADATA_FILE}"
    text = (
        f"version: 0\ntopic_id: {uuid_to_text(name.topic_id)}\ntopic_name: {name.topic_name}\n"
        f"partition: {name.partition}\n"
    )
    handle = storage.open(path, create=True)
    try:
        write_fully(storage, handle, text.encode(), 0)
    finally:
        storage.close(handle)
    return path
