"""HTTP to the cluster through the standard library: one kept connection, several servers, failures as exit codes.

Invariants: a request that may have reached a server is sent again only where that can do no harm (`repeatable`);
whatever else is in doubt ends the command with "may or may not have happened". No wait is longer than the timeout.
"""

import http.client
import json
import os
import select
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import click

from cli.bootstrap import Server, servers
from cli.failure import ExitCode, Failure
from cli.invocation import Invocation
from cli.ports import usual_http_port

DEFAULT_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
READ_ATTEMPT_S: Final = 5.0
"""A node that takes a question and says nothing for so long is paused or cut off: the next one is asked."""
RETRY_PAUSE_S: Final = 0.1
CLUSTER: Final = "/v3/clusters/-"
_NAME_MISMATCHES: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_RETRY_STATUS: Final = frozenset({429, 503})
_EXIT_CODES: Final = {
    401: ExitCode.DENIED,
    403: ExitCode.DENIED,
    404: ExitCode.NOT_FOUND,
    408: ExitCode.UNAVAILABLE,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    429: ExitCode.UNAVAILABLE,
    502: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
    504: ExitCode.UNAVAILABLE,
    507: ExitCode.UNAVAILABLE,
}


class RequestFailure(Failure):
    """The cluster refused: HTTP `status`, the body's `error_code` and everything else that the body said."""

    def __init__(self, status: int, document: Mapping[str, Any], message: str) -> None:
        super().__init__(message, _EXIT_CODES.get(status, ExitCode.FAILURE))
        self.status = status
        self.document = document
        self.error_code = document.get("error_code")
        self.is_in_doubt = False

    @property
    def outcome_is_unknown(self) -> bool:
        """What was asked for may or may not have happened, by this attempt or by one before it."""
        return self.is_in_doubt or self.document.get("outcome") == "unknown"


class OutcomeUnknown(Failure):
    """The connection broke after the request was sent, and sending it again could do it twice."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.UNAVAILABLE)


class BrokeOff(Failure):
    """No answer to a request that may be sent again: it may have been done, or not."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.UNAVAILABLE)


class Request(NamedTuple):
    """One request; `repeatable` says that doing it twice does no harm."""

    method: str
    path: str
    body: bytes | bytearray | None
    headers: Mapping[str, str]
    repeatable: bool
    attempt_s: float | None


class Answer(NamedTuple):
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """The body as JSON; None where it is empty."""
        return json.loads(self.body) if self.body else None


def segment(text: object) -> str:
    """A name as one segment of a path."""
    return quote(str(text), safe="")


class HttpClient:
    """Talks to the first server that answers and stays with it while it does."""

    def __init__(self, servers: Sequence[Server], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        assert servers, "there is always one to try"
        self._servers = list(servers)
        self.timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    def of(cls, invocation: Invocation) -> "HttpClient":
        """The client of the command that runs; its connection is closed when the command ends."""
        client = cls(servers(invocation), timeout_s=invocation.timeout_s or DEFAULT_TIMEOUT_S)
        click.get_current_context().call_on_close(client.close)
        return client

    @property
    def server(self) -> Server:
        """The server that is talked to, or will be tried first."""
        return self._servers[0]

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        return self.request("GET", path, repeatable=True).document()

    def get_list(self, path: str) -> list[Any]:
        """GET all pages of a list resource: its `data`."""
        found: list[Any] = []
        following: str | None = path
        while following:
            document = self.get(following)
            found += document["data"]
            following = (document.get("metadata") or {}).get("next")
            if following and "://" in following:
                following = "/" + following.split("://", 1)[1].partition("/")[2]
        return found

    def send(self, method: str, path: str, document: object, *, repeatable: bool = False, **how: Any) -> Any:
        """Send a JSON document and return the answer's; `how`: what `request` takes beside it."""
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        return self.request(method, path, body=body, headers=headers, repeatable=repeatable, **how).document()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | bytearray | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
        retry: bool = True,
        wait_s: float = 0.0,
        attempt_s: float | None = None,
        patient: bool = False,
    ) -> Answer:
        """One request, tried again for as long as nothing can have come of it and the timeout allows.

        `retry` False: a refusal that only means "not now" is not waited out, unless an attempt before it is in doubt.
        `wait_s` is what the server was asked to wait (a long poll), on top of the timeout.
        `attempt_s`: after so long without an answer the next server is asked, where that does no harm; for a GET it
        is a few seconds unless said otherwise, as long as there is another server.
        `patient`: servers that are all away may come back, it is tried until the timeout.
        Raises RequestFailure for a refusal, OutcomeUnknown, and Failure where nobody answers.
        """
        if attempt_s is None and method == "GET" and len(self._servers) > 1:
            attempt_s = READ_ATTEMPT_S + wait_s
        wanted = Request(method, path, body, headers or {}, repeatable, attempt_s)
        deadline = time.monotonic() + self.timeout_s
        refusal: RequestFailure | None = None
        in_doubt = False
        while True:
            try:
                return self._attempt(wanted, deadline + wait_s)
            except RequestFailure as failure:
                refusal = failure
                in_doubt = failure.is_in_doubt = in_doubt or failure.outcome_is_unknown
                pause_s = _pause(failure, repeatable=repeatable)
                waits = retry or in_doubt
                if pause_s is None or not waits or time.monotonic() + pause_s >= deadline:
                    raise
                time.sleep(pause_s)
            except OutcomeUnknown:
                raise
            except Failure as failure:
                in_doubt = in_doubt or isinstance(failure, BrokeOff)
                may_return = patient and failure.exit_code is ExitCode.UNAVAILABLE
                if not may_return or time.monotonic() + RETRY_PAUSE_S >= deadline:
                    if refusal is None:
                        raise
                    refusal.is_in_doubt = in_doubt
                    raise refusal from None  # it says more than "no answer in time"
                time.sleep(RETRY_PAUSE_S)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, wanted: Request, deadline: float) -> Answer:
        """One exchange with the first server that takes it."""
        broken: Exception | None = None
        for _ in range(2 * len(self._servers)):
            try:
                connection = self._connect(deadline)
            except (OSError, http.client.HTTPException) as error:
                failure = self._nobody_answers(error)
                raise failure if broken is None else BrokeOff(failure.message) from None
            try:
                return _exchange(connection, wanted, deadline)
            except RequestFailure as refused:
                refused.is_in_doubt = broken is not None
                raise
            except (OSError, http.client.HTTPException) as error:
                broken = error
                self._give_up_server()
                if not wanted.repeatable or time.monotonic() >= deadline:
                    raise self._broken(error, self._servers[-1], repeatable=wanted.repeatable) from None
        assert broken is not None, "the loop ran"
        raise self._broken(broken, self._servers[-1], repeatable=wanted.repeatable)

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        """The open connection, or a new one to the first server that accepts; why not, where none does."""
        if self._connection is not None and not _is_closed_by_peer(self._connection):
            return self._connection
        self.close()
        error: OSError = TimeoutError("timed out")
        for _ in self._servers:
            kind = http.client.HTTPSConnection if self.server.scheme == "https" else http.client.HTTPConnection
            timeout_s = max(0.05, min(CONNECT_TIMEOUT_S, deadline - time.monotonic()))
            connection = kind(self.server.host, self.server.port, timeout=timeout_s)
            try:
                connection.connect()
            except OSError as failed:
                error = error if isinstance(error, ssl.SSLError) else failed  # that one was there to be talked to
                self._servers.append(self._servers.pop(0))
                continue
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
            return connection
        raise error

    def _give_up_server(self) -> None:
        """Try another one next."""
        self.close()
        self._servers.append(self._servers.pop(0))

    def _nobody_answers(self, error: Exception) -> Failure:
        tried = ", ".join(str(server) for server in self._servers)
        if isinstance(error, ssl.SSLCertVerificationError):
            return Failure(f"the certificate at {tried} is not trusted: {error.verify_message}{_trust_hint(error)}")
        reason = "connection refused" if isinstance(error, ConnectionRefusedError) else _reason(error)
        return Failure(f"nobody answers at {tried} ({reason}){self._other_port_hint()}", ExitCode.UNAVAILABLE)

    def _broken(self, error: Exception, server: Server, *, repeatable: bool) -> Failure:
        if isinstance(error, http.client.HTTPException) and usual_http_port(server.port) is not None:
            return Failure(f"{server} does not speak HTTP{self._other_port_hint()}", ExitCode.UNAVAILABLE)
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
            return Failure(f"{server} does not speak HTTP: name an HTTP listener with -b", ExitCode.UNAVAILABLE)
        if repeatable:
            return BrokeOff(f"{server} broke off: {_reason(error)}{_scheme_hint(error, server)}")
        return OutcomeUnknown(
            f"{server} broke off after the request was sent ({_reason(error)}): it may have been done"
        )

    def _other_port_hint(self) -> str:
        for server in self._servers:
            if (port := usual_http_port(server.port)) is not None:
                meant = server._replace(port=port)
                return f"; {server.port} is a port for Kafka's protocol or other nodes, kraft speaks HTTP: -b {meant}"
        return ". Is the cluster up? kraft status; kraft up"


def _trust_hint(error: ssl.SSLCertVerificationError) -> str:
    """How to make this machine trust a private authority: OpenSSL itself reads SSL_CERT_FILE, in silence."""
    if error.verify_code in _NAME_MISMATCHES:
        return ""
    given = os.environ.get("SSL_CERT_FILE")
    if not given:
        return "; if its authority is private, name that one's PEM file: SSL_CERT_FILE=ca.pem"
    return f"; SSL_CERT_FILE={given} {'does not help' if Path(given).is_file() else 'is no file'}"


def _scheme_hint(error: Exception, server: Server) -> str:
    """A listener of HTTPS that is asked in plain text hangs up without a word."""
    hung_up = isinstance(error, ConnectionResetError)  # RemoteDisconnected is one too
    return f"; if that is an HTTPS listener: -b {server._replace(scheme='https')}" if hung_up else ""


def _exchange(connection: http.client.HTTPConnection, wanted: Request, deadline: float) -> Answer:
    """Send and receive; a connection that the server wants closed is closed by http.client itself."""
    left_s = deadline - time.monotonic()
    connection.sock.settimeout(max(0.05, left_s if wanted.attempt_s is None else min(left_s, wanted.attempt_s)))
    headers = {"Accept": "application/json", **wanted.headers}
    connection.request(wanted.method, wanted.path, body=wanted.body, headers=headers)
    response = connection.getresponse()
    received = response.read()
    if response.status >= 400:
        raise _refusal(response.status, dict(response.headers), received)
    return Answer(response.status, dict(response.headers), received)


def _pause(failure: RequestFailure, *, repeatable: bool) -> float | None:
    """How long to wait before asking again; None where that won't help or could do harm."""
    if failure.status not in _RETRY_STATUS or (failure.outcome_is_unknown and not repeatable):
        return None
    if failure.status == 429:
        return float(failure.document.get("retry_after_s") or 1.0)
    return RETRY_PAUSE_S


def _is_closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    """An idle connection that is readable was closed: nothing is lost by making a new one before sending."""
    if connection.sock is None:
        return True
    return bool(select.select([connection.sock], [], [], 0)[0])


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> RequestFailure:
    try:
        document: Any = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    if status == 429 and headers.get("Retry-After", "").isdecimal():
        document.setdefault("retry_after_s", int(headers["Retry-After"]))
    text = document.get("message") or f"the server answered {status} {http.client.responses.get(status, '')}".rstrip()
    return RequestFailure(status, document, str(text))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "no HTTPS there: try http://"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
