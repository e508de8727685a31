"""Which topics the members of a group read, as far as a broker can tell.

Pure. What members say of themselves is opaque to a coordinator, with one exception: consumers (protocol type
`consumer`) begin it with their topics, and by these an administrator is kept from deleting offsets in use (KIP-496).
"""

from typing import TYPE_CHECKING, ClassVar, Final

from wire import codec
from wire.codec import DecodeError
from wire.schema import NEVER, Int16, Message, Versions, empty

if TYPE_CHECKING:
    from broker.groups.group import Group

CONSUMER: Final = "consumer"


class ConsumerProtocolSubscription(Message, frozen=True):
    """The beginning of it, the same in all versions; what follows is the assignors' business."""

    wire_versions: ClassVar = Versions(0, 0, flexible_from=NEVER)

    version: Int16 = 0
    topics: list[str] = empty()


def subscribed_topics(group: "Group") -> set[str] | None:
    """The topics that any member reads; None: it cannot be told."""
    if group.protocol_type != CONSUMER or group.protocol_name is None:
        return None
    topics: set[str] = set()
    try:
        for member in group.members:
            metadata = member.metadata_for(group.protocol_name)
            topics.update(codec.decode(ConsumerProtocolSubscription, metadata, 0).topics)
    except DecodeError:
        return None
    return topics
