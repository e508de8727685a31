"""How a request to a group's coordinator becomes an answer, now or later: what the group APIs share."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from wire.schema import Message

Response = TypeVar("Response", bound=Message)


def respond(answer: Any, make: Callable[[Any], Response]) -> Response | asyncio.Future[Response]:
    """`make` of the answer, or of what the future will bring; whoever gives up waiting gives that up, too."""
    if not isinstance(answer, asyncio.Future):
        return make(answer)
    response: asyncio.Future[Response] = answer.get_loop().create_future()

    def come(done: asyncio.Future[Any]) -> None:
        if not response.done():
            response.set_result(make(done.result()))

    def over(_: asyncio.Future[Response]) -> None:
        answer.cancel()

    answer.add_done_callback(come)
    response.add_done_callback(over)
    return response
