"""The way to the node that leads a partition: any node takes any request.

Owns the one pooled client session, made when first needed, and what its failures mean. A batch is built where the
request arrived and sent as the bytes that will lie in the log; a fetch brings such bytes back.
Invariant (S15): a produce is sent at most once. A failure before the connection stood is a `StaleRouteError` (nothing
left, try again); any later one is `unknown`, unless the leader itself said otherwise.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from api.http.errors import RETRIABLE, ApiError, Outcome, StaleRouteError
from api.http.media import RECORD_BATCH
from api.http.routing import FORWARDED, TOPIC_ID, url_host
from wire.identifiers import uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from api.http.settings import HttpSettings
    from metadata.image import Broker, Topic


CONNECT_TIMEOUT_S: Final = 2.0
GRACE_S: Final = 1.0
"""How much longer than its own timeout a produce is waited for: the leader's answer says more than our clock."""
CONNECTIONS_PER_NODE: Final = 256
KEEPALIVE_S: Final = 30.0
"""At most so long, and half of a listener's own, so that a pooled connection is not closed at the moment it is used."""


Query = dict[str, str]


class Forwarded(NamedTuple):
    """A successful answer of another node."""

    body: bytes
    headers: Mapping[str, str]
    status: int


class Call(NamedTuple):
    """One request to another node."""

    method: str
    path: str
    """With all escapes as the other node is to see them."""
    query: Query
    headers: dict[str, str]
    body: bytearray | None
    timeout: aiohttp.ClientTimeout
    is_about_a_leader: bool = True
    """An unknown topic or partition is news that the other node has not heard yet."""


class Relayed(NamedTuple):
    """A caller's request as it is handed on whole; `path` with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    timeout_s: float
    is_repeatable: bool
    """Doing it twice does no harm."""


class Forwarder:
    """One node's client to the others."""

    def __init__(self, settings: HttpSettings, *, broker_id: int, cluster_id: str) -> None:
        self._settings = settings
        self._broker_id = broker_id
        self._cluster_path = f"/v3/clusters/{cluster_id}"
        self._session: aiohttp.ClientSession | None = None

    async def append(self, leader: Broker, topic: Topic, partition: int, batches: bytearray, query: Query) -> Forwarded:
        """Produce record batches at their leader, within the query's `timeout` (ms) and a little; at most once."""
        headers = {"Content-Type": RECORD_BATCH, TOPIC_ID: uuid_to_text(topic.topic_id)}
        path = f"{self._cluster_path}/topics/{topic.name}/partitions/{partition}/records"
        total_s = int(query["timeout"]) / 1000 + GRACE_S
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_TIMEOUT_S)
        call = Call("POST", path, query, headers, batches, timeout)
        try:
            return await self._call(leader, call)
        except StaleRouteError:
            raise
        except ApiError as error:
            if error.outcome is None and error.status >= 500:
                error.outcome = Outcome.UNKNOWN
            raise
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            message = f"the connection to broker {leader.broker_id} failed after records may have reached it"
            raise ApiError(503, RETRIABLE, f"{message}: {_why(error)}", outcome=Outcome.UNKNOWN) from None

    async def get(
        self,
        leader: Broker,
        path: str,
        *,
        query: Query | None = None,
        topic_id: UUID | None = None,
        accept: str = "application/json",
        timeout_s: float,
    ) -> Forwarded:
        """Read from another node; `path` counts from the cluster's resource.

        Every failure of the connection may be tried again. The answer must begin within `timeout_s` (L1); a large one
        may then take longer, as long as it flows.
        """
        headers = {"Accept": accept}
        if topic_id is not None:
            headers[TOPIC_ID] = uuid_to_text(topic_id)
        try:
            async with asyncio.timeout(timeout_s) as until_head:
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=timeout_s)
                call = Call("GET", self._cluster_path + path, query or {}, headers, None, timeout)
                return await self._call(leader, call, on_head=lambda: until_head.reschedule(None))
        except TimeoutError:
            message = f"broker {leader.broker_id} did not answer within {timeout_s:.1f} s"
            raise StaleRouteError(503, RETRIABLE, message) from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"broker {leader.broker_id} did not answer: {_why(error)}"
            raise StaleRouteError(503, RETRIABLE, message) from None

    async def relay(self, broker: Broker, relayed: Relayed) -> Forwarded:
        """Hand a whole request on to the node that can do it; its refusals come back as they are.

        A failure after the connection stood is worth another try (`StaleRouteError`) where that does no harm; else what
        became of the request is not known.
        """
        timeout = aiohttp.ClientTimeout(total=relayed.timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        body = bytearray(relayed.body) if relayed.body else None
        call = Call(relayed.method, relayed.path, {}, relayed.headers, body, timeout, is_about_a_leader=False)
        try:
            return await self._call(broker, call)
        except (aiohttp.ClientError, OSError) as error:
            message = f"broker {broker.broker_id} did not answer: {_why(error)}"
            if relayed.is_repeatable:
                raise StaleRouteError(503, RETRIABLE, message) from None
            raise ApiError(503, RETRIABLE, message, outcome=Outcome.UNKNOWN) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, broker: Broker, call: Call, *, on_head: Callable[[], None] | None = None) -> Forwarded:
        where = f"{url_host(broker.http.host)}:{broker.http.port}"
        try:
            async with self._pooled_session().request(
                call.method,
                URL(f"{self._settings.scheme}://{where}{call.path}", encoded=True),
                params=call.query,
                headers={FORWARDED: str(self._broker_id), **call.headers},
                data=None if call.body is None else io.BytesIO(call.body),  # sent in pieces, in turn with others
                allow_redirects=False,
                timeout=call.timeout,
            ) as response:
                if on_head is not None:
                    on_head()
                answer = await response.read()
                if response.status < 300:
                    return Forwarded(answer, response.headers, response.status)
                raise _refused(response.status, answer, broker, is_about_a_leader=call.is_about_a_leader)
        except aiohttp.ClientConnectorCertificateError as error:
            message = f"broker {broker.broker_id} shows a certificate at {where} that this node does not trust"
            raise StaleRouteError(503, RETRIABLE, f"{message}: {_why_untrusted(error)}") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise StaleRouteError(503, RETRIABLE, f"broker {broker.broker_id} at {where} {_unreached(error)}") from None

    def _pooled_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=CONNECTIONS_PER_NODE,
                keepalive_timeout=min(KEEPALIVE_S, self._settings.keepalive_s / 2),
                ssl=self._settings.proxy_ssl or True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent",),
                read_bufsize=1024 * 1024,
            )
        return self._session


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _unreached(error: aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) -> str:
    """Why no connection stood, without the client's internals."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"took no connection within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error.os_error, ConnectionRefusedError):
        return "refused the connection"
    return f"cannot be reached: {error.os_error.strerror or error.os_error}"


def _why_untrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    """OpenSSL's words, and the settings that decide: whom this node trusts, and under which name it asks."""
    said = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
    return f"{said}; see http.ssl.authorities here, advertised.http.listeners there"


def _refused(status: int, answer: bytes, broker: Broker, *, is_about_a_leader: bool) -> ApiError:
    """The other node's refusal as our own."""
    try:
        body: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        error_code, message = int(body.pop("error_code")), str(body.pop("message"))
        outcome = Outcome(body.pop("outcome")) if "outcome" in body else None
    except (msgspec.DecodeError, KeyError, ValueError, TypeError):
        return ApiError(503, RETRIABLE, f"broker {broker.broker_id} answered {status} without an account of it")
    is_news = is_about_a_leader and status == 404 and error_code in (40401, 40402)
    stale = body.pop("stale_route", False) or is_news
    if stale and outcome is not Outcome.UNKNOWN:
        return StaleRouteError(503, RETRIABLE, message, outcome=outcome)
    return ApiError(status, error_code, message, outcome=outcome, details=body)
