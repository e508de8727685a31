"""The integers and ids that mean something, as types (Kafka's names).

Owns nothing but names; every package above may import it.
"""

import base64
import uuid
from typing import Final, NewType

BrokerId = NewType("BrokerId", int)
BrokerEpoch = NewType("BrokerEpoch", int)
PartitionIndex = NewType("PartitionIndex", int)
Offset = NewType("Offset", int)
LeaderEpoch = NewType("LeaderEpoch", int)
PartitionEpoch = NewType("PartitionEpoch", int)
TopicId = NewType("TopicId", uuid.UUID)

NO_LEADER: Final = BrokerId(-1)


def uuid_to_text(value: uuid.UUID) -> str:
    """Kafka's text form of a uuid: base64url of its 16 bytes without padding, 22 characters."""
    return base64.urlsafe_b64encode(value.bytes).rstrip(b"=").decode()


def uuid_from_text(text: str) -> uuid.UUID:
    """Read the text form back; raises ValueError where it is not 22 characters of base64url."""
    raw = base64.urlsafe_b64decode(text + "==")
    if len(text) != 22 or len(raw) != 16:
        raise ValueError(f"not a uuid in Kafka's text form (22 characters of base64url): {text!r}")
    return uuid.UUID(bytes=raw)
