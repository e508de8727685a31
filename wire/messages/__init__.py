"""Kafka's messages, one file an API: what is on the wire in which version, and nothing about what it does.

`API` has every API that is declared; a listener advertises those that it has handlers for. The facts are those of
Kafka 4.3's protocol guide; tests/wire hold them against two other implementations, byte by byte.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wire.messages.api import Api, ApiKey
from wire.messages.api_versions import API_VERSIONS
from wire.messages.fetch import FETCH
from wire.messages.init_producer_id import INIT_PRODUCER_ID
from wire.messages.list_offsets import LIST_OFFSETS
from wire.messages.metadata import METADATA
from wire.messages.offset_for_leader_epoch import OFFSET_FOR_LEADER_EPOCH
from wire.messages.produce import PRODUCE

__all__ = ["API", "Api", "ApiKey"]

_ALL: Final = (
    PRODUCE,
    FETCH,
    LIST_OFFSETS,
    METADATA,
    API_VERSIONS,
    INIT_PRODUCER_ID,
    OFFSET_FOR_LEADER_EPOCH,
)

API: Final[Mapping[int, Api]] = MappingProxyType({api.key.value: api for api in _ALL})
