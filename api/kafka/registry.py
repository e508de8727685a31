"""Which APIs are served: a handler for each, and from that the list that ApiVersions gives.

A key that stands here works: clients infer features from the list. What is served may begin later than what is
advertised (Produce: librdkafka compresses only where version 0 is listed, KAFKA-18659).
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from api.kafka import (
    api_versions,
    fetch,
    init_producer_id,
    list_offsets,
    offset_for_leader_epoch,
    produce,
)
from api.kafka import metadata as metadata_api
from api.kafka.context import Caller
from wire.messages import API, ApiKey
from wire.messages.headers import RequestHeader
from wire.schema import Message

Answer = Message | asyncio.Future[Any] | None
"""At once, later (a future of the message), or none at all (Produce with acks=0)."""
Handler = Callable[[Caller, RequestHeader, Any], Answer]


class Served(NamedTuple):
    """One API: what answers it, in which versions."""

    handle: Handler
    versions: range


_HANDLERS: Final[Mapping[ApiKey, Handler]] = {
    ApiKey.PRODUCE: produce.handle,
    ApiKey.FETCH: fetch.handle,
    ApiKey.LIST_OFFSETS: list_offsets.handle,
    ApiKey.METADATA: metadata_api.handle,
    ApiKey.API_VERSIONS: api_versions.handle,
    ApiKey.INIT_PRODUCER_ID: init_producer_id.handle,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch.handle,
}

SERVED: Final[Mapping[int, Served]] = MappingProxyType(
    {key.value: Served(handle, API[key].versions) for key, handle in _HANDLERS.items()}
)
VERSIONS: Final[Mapping[ApiKey, range]] = MappingProxyType({key: API[key].versions for key in _HANDLERS})
