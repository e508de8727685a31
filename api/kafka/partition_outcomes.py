"""What becomes of a request for many partitions, each of which has its own outcome: elections and reassignments.

Owns how many go into one command of the metadata log, and the codes by the partitions as the client named them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from api.kafka.admin_calls import AdminCall, Failure, attempt, failure_of, repeated, slices
from metadata.answers import PartitionsChanged
from metadata.bounds import MAX_CHANGES_PER_COMMAND
from metadata.requests import AdminRequest
from wire.errors import ErrorCode, RefusedError

Wish = TypeVar("Wish")
TWICE: Final = Failure(ErrorCode.INVALID_REQUEST, "the partition is named twice: name it once")


class Name(NamedTuple):
    topic: str
    partition: int


Outcomes = dict[Name, Failure | None]
"""None: it is so."""


async def outcomes_of(
    call: AdminCall,
    wishes: Iterable[tuple[Name, Wish]],
    request: Callable[[Sequence[Wish]], AdminRequest],
) -> Outcomes:
    """Ask for all of them, some at a time; what of a wish is doubtful or timed out is told for each of its slice."""
    listed = list(wishes)
    twice = repeated(name for name, _ in listed)
    outcomes: Outcomes = {name: TWICE if name in twice else None for name, _ in listed}
    once = [(name, wish) for name, wish in listed if name not in twice]
    for some in slices(once, MAX_CHANGES_PER_COMMAND):
        answer = await attempt(call.ask(request([wish for _, wish in some])))
        if isinstance(answer, Failure):
            outcomes.update((name, answer) for name, _ in some)
            continue
        assert isinstance(answer, PartitionsChanged), answer
        for refusal in answer.refusals:
            name = Name(refusal.name or "", refusal.partition)
            outcomes[name] = failure_of(RefusedError(refusal.code, refusal.message))
    return outcomes
