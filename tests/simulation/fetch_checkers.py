"""S11: whatever changes a follower's log comes from the answer to the very request that is in flight.

Which answer belongs to which request is known where it is decoded, by its correlation id, and nowhere else.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from broker.replication.fetch_session import Key
from broker.replication.fetcher import Followed, LeaderFetcher
from broker.replication.follower import Append, FetchPosition, StartAt, Step, TruncateTo
from tests.broker.replication.model_checkers import ViolationError
from wire.connection import ClientConnection
from wire.messages.fetch import FetchRequest, FetchResponse, PartitionData


class FetchCheckers:
    """Of all followers of a run. `check` runs a check and keeps the violation that it raises."""

    def __init__(self, check: Callable[..., None]) -> None:
        self._check = check
        self._asked: WeakKeyDictionary[ClientConnection, int] = WeakKeyDictionary()
        """The correlation id of the last Fetch over each connection: that of the one in flight."""
        self._answered: WeakKeyDictionary[ClientConnection, tuple[int, FetchResponse]] = WeakKeyDictionary()
        self._wanted: WeakKeyDictionary[LeaderFetcher, dict[Key, FetchPosition]] = WeakKeyDictionary()
        """What the last request of each fetcher asked for, in it or in its session."""

    def wrappers(self) -> tuple[tuple[type, str, Callable[[Any], Any]], ...]:
        return (
            (ClientConnection, "send", self._send),
            (ClientConnection, "_answer", self._answer),
            (LeaderFetcher, "_request", self._request),
            (LeaderFetcher, "_take", self._take),
        )

    def _send(self, real: Any) -> Any:
        def send(connection: ClientConnection, api_key: int, version: int, request: Any) -> Any:
            correlation_id, buffers = real(connection, api_key, version, request)
            if isinstance(request, FetchRequest):
                self._asked[connection] = correlation_id
            return correlation_id, buffers

        return send

    def _answer(self, real: Any) -> Any:
        def answer(connection: ClientConnection, frame: memoryview) -> Any:
            correlation_id, response = real(connection, frame)
            if isinstance(response, FetchResponse):
                self._answered[connection] = correlation_id, response
            return correlation_id, response

        return answer

    def _request(self, real: Any) -> Any:
        def request(fetcher: LeaderFetcher, *args: Any) -> Any:
            self._wanted[fetcher] = dict(fetcher._session.wanted)  # the test sees everything
            return real(fetcher, *args)

        return request

    def _take(self, real: Any) -> Any:
        def take(fetcher: LeaderFetcher, followed: Followed, data: PartitionData) -> Step:
            asked = followed.asked
            step: Step = real(fetcher, followed, data)
            if isinstance(step, TruncateTo | StartAt) or (isinstance(step, Append) and len(step.records)):
                self._check(self._answers_what_is_in_flight, fetcher, followed.key, asked, data)
            return step

        return take

    def _answers_what_is_in_flight(
        self, fetcher: LeaderFetcher, key: Key, asked: FetchPosition | None, data: PartitionData
    ) -> None:
        who = f"broker {fetcher._settings.broker_id} changes its log of {key} "
        if fetcher._connection is None:
            raise ViolationError("S11", f"{who}, and has no connection to its leader")
        connection = fetcher._connection._wire
        correlation_id, response = self._answered.get(connection, (-1, FetchResponse()))
        if all(one is not data for topic in response.responses for one in topic.partitions):
            raise ViolationError("S11", f"{who}: its leader's last answer, to request {correlation_id}, is another")
        if correlation_id != self._asked[connection]:
            raise ViolationError("S11", f"{who}: answers {correlation_id}; in flight is {self._asked[connection]}")
        if asked is None or asked is not self._wanted[fetcher].get(key):
            raise ViolationError("S11", f"{who}: answers {self._wanted[fetcher].get(key)}; in flight is {asked}")
