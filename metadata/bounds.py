"""The limits of every field that is decoded from bytes, as types: what lies outside of them is refused by the decoder.

Invariant: no struct of this room carries a bare `int`, `str` or unbounded tuple that came from a peer, a disk or a
client.
"""

from typing import Annotated, Final

from msgspec import Meta

MAX_INT32: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1

MAX_PARTITIONS_PER_TOPIC: Final = 10_000
MAX_REPLICAS: Final = 100
MAX_DIRECTORIES: Final = 100
MAX_CONFIGS: Final = 200
MAX_LISTENERS: Final = 16
MAX_CONFIG_VALUE: Final = 32_768
"""Long enough for the replicas of a thousand partitions, which Kafka's tools name in a throttle."""
MAX_COMMAND_BYTES: Final = 512 * 1024
ANSWERS_KEPT: Final = 1024
PRODUCER_IDS_A_BLOCK: Final = 1000
"""As Kafka's `ProducerIdsBlock`: a broker asks once for a thousand producers."""
MAX_CHANGES_PER_COMMAND: Final = 2_000
"""Partition changes in one command: about 100 bytes each, so well below the limit of a command."""

BrokerIdField = Annotated[int, Meta(ge=0, le=MAX_INT32)]
OptionalBrokerIdField = Annotated[int, Meta(ge=-1, le=MAX_INT32)]
"""-1 stands for none."""
EpochField = Annotated[int, Meta(ge=-1, le=MAX_INT64)]
"""A broker, leader or partition epoch; -1 stands for none."""
LogIndexField = Annotated[int, Meta(ge=0, le=MAX_INT64)]
PartitionIndexField = Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS_PER_TOPIC)]
SequenceField = Annotated[int, Meta(ge=0, le=MAX_INT64)]
PortField = Annotated[int, Meta(ge=1, le=65535)]
ProducerIdField = Annotated[int, Meta(ge=0, le=MAX_INT64)]
BytesPerSecondField = Annotated[int, Meta(ge=1, le=MAX_INT64)]
VersionField = Annotated[int, Meta(ge=0, le=32767)]
CountField = Annotated[int, Meta(ge=0, le=MAX_INT32)]
SignedInt32Field = Annotated[int, Meta(ge=-MAX_INT32 - 1, le=MAX_INT32)]
"""A number as a caller sent it, judged by the rules of the request and not by the decoder."""

TopicNameField = Annotated[str, Meta(min_length=1, max_length=249)]
RequestedNameField = Annotated[str, Meta(max_length=1024)]
"""A name as a caller sent it: longer than a topic may be, so that the refusal can say why."""
ClusterIdField = Annotated[str, Meta(min_length=1, max_length=128)]
HostField = Annotated[str, Meta(min_length=1, max_length=255)]
ListenerNameField = Annotated[str, Meta(min_length=1, max_length=249)]
RackField = Annotated[str, Meta(min_length=1, max_length=249)]
ConfigNameField = Annotated[str, Meta(max_length=249)]
ConfigValueField = Annotated[str, Meta(max_length=MAX_CONFIG_VALUE)]
MessageField = Annotated[str, Meta(max_length=4096)]

MAX_MESSAGE_CHARACTERS: Final = 4096
