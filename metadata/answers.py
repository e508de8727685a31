"""What a proposal or a request is answered, and the window of answers that makes a retry harmless.

Every answer carries `index`, the log index at which it was applied (for a refusal: was refused): the caller's node
waits until it has applied that index itself before it answers its client.

Invariant: a window drops answers by log position only, the oldest first, so every node drops the same one.
"""

from collections.abc import Mapping
from typing import Annotated, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct, structs

from metadata import bounds
from wire.errors import ErrorCode, RefusedError


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """It is so, as of `index`."""

    index: bounds.LogIndexField


class TopicCreated(Struct, frozen=True, kw_only=True, tag="topic_created"):
    """The topic exists as of `index`; under `validate_only` it would, and `topic_id` is not kept."""

    index: bounds.LogIndexField
    topic_id: UUID
    name: bounds.TopicNameField
    partitions_count: bounds.CountField
    replication_factor: bounds.CountField


class RegistrationAnswer(Struct, frozen=True, kw_only=True, tag="registered"):
    """The broker is registered, fenced, under `broker_epoch`; it may ask to be unfenced once it has applied `index`."""

    index: bounds.LogIndexField
    broker_epoch: bounds.EpochField


class HeartbeatAnswer(Struct, frozen=True, kw_only=True, tag="heard"):
    """What the controller knows of the broker; at `should_shut_down` it leads nothing any more and may stop."""

    index: bounds.LogIndexField
    is_caught_up: bool
    is_fenced: bool
    should_shut_down: bool
    is_certain: bool = True
    """Nobody else was the controller a moment before: what it says of the broker is the cluster's word (S15)."""


class PartitionRefusal(Struct, frozen=True, kw_only=True):
    """One partition that did not change, and why. `topic_id` is None where a request named a topic that is unknown."""

    topic_id: UUID | None
    partition: bounds.SignedInt32Field
    code: ErrorCode
    message: bounds.MessageField
    name: bounds.RequestedNameField | None = None
    """The topic as the request named it."""


class PartitionsChanged(Struct, frozen=True, kw_only=True, tag="partitions_changed"):
    """So many partitions changed; each refusal names one that had moved on."""

    index: bounds.LogIndexField
    changed: bounds.CountField
    refusals: Annotated[tuple[PartitionRefusal, ...], Meta(max_length=bounds.MAX_CHANGES_PER_COMMAND)] = ()


class ProducerIdsAllocated(Struct, frozen=True, kw_only=True, tag="producer_ids_allocated"):
    """The broker may hand out `count` producer ids from `first_producer_id` on; nobody else ever gets them."""

    index: bounds.LogIndexField
    first_producer_id: bounds.ProducerIdField
    count: bounds.CountField = bounds.PRODUCER_IDS_A_BLOCK


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """Nothing changed: the code for the machine, the message for the person."""

    index: bounds.LogIndexField
    code: ErrorCode
    message: bounds.MessageField

    @classmethod
    def of(cls, error: RefusedError, *, index: int) -> "Refused":
        """The refusal as a value that travels."""
        return cls(index=index, code=error.code, message=error.message[: bounds.MAX_MESSAGE_CHARACTERS])

    def error(self) -> RefusedError:
        """The refusal as the exception that each door translates."""
        return RefusedError(self.code, self.message)


class OutcomeUnknownAnswer(Struct, frozen=True, kw_only=True, tag="outcome_unknown"):
    """It may or may not have been applied, and the cluster remembers no longer."""

    index: bounds.LogIndexField
    message: bounds.MessageField


class NotControllerAnswer(Struct, frozen=True, kw_only=True, tag="not_controller"):
    """This node is not the active controller, nothing was proposed; `leader_id` -1: it knows of none."""

    index: bounds.LogIndexField
    leader_id: bounds.OptionalBrokerIdField


Answer: TypeAlias = (
    Done | TopicCreated | RegistrationAnswer | PartitionsChanged | ProducerIdsAllocated | Refused | OutcomeUnknownAnswer
)
"""What applying a proposal answers."""

AdminAnswer: TypeAlias = (
    Done
    | TopicCreated
    | RegistrationAnswer
    | HeartbeatAnswer
    | PartitionsChanged
    | ProducerIdsAllocated
    | Refused
    | OutcomeUnknownAnswer
    | NotControllerAnswer
)
"""Everything that a node answers to an `AdminRequest` over the peer link."""


class AnswerWindow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last 1,024 answers to one broker's proposals in its current epoch, in log order."""

    broker_epoch: bounds.EpochField
    left_up_to: Annotated[int, Meta(ge=-1, le=bounds.MAX_INT64)] = -1
    """The highest sequence whose answer has left the window."""
    answers: Annotated[Mapping[bounds.SequenceField, Answer], Meta(max_length=bounds.ANSWERS_KEPT)] = {}

    def first_answer(self, *, broker_epoch: int, sequence: int) -> Answer | None:
        """The answer given to this sequence before, None where it was surely never applied."""
        if broker_epoch > self.broker_epoch:
            return Refused(
                index=0,
                code=ErrorCode.STALE_BROKER_EPOCH,
                message=f"broker_epoch {broker_epoch} of the command id is not registered; register the broker again",
            )
        if broker_epoch != self.broker_epoch:
            return OutcomeUnknownAnswer(
                index=0,
                message=f"the proposer's broker_epoch {broker_epoch} is over; look at the cluster to see its outcome",
            )
        answer = self.answers.get(sequence)
        if answer is None and sequence <= self.left_up_to:
            return OutcomeUnknownAnswer(
                index=0,
                message=f"sequence {sequence} is older than the {bounds.ANSWERS_KEPT} answers that the cluster keeps; "
                "look at the cluster to see whether it was applied",
            )
        return answer

    def with_answer(self, sequence: int, answer: Answer) -> "AnswerWindow":
        """The window after one more answer; the oldest by log position leaves when it is full."""
        assert sequence not in self.answers
        kept = dict(self.answers)
        left_up_to = self.left_up_to
        if len(kept) >= bounds.ANSWERS_KEPT:
            oldest = next(iter(kept))
            del kept[oldest]
            left_up_to = max(left_up_to, oldest)
        kept[sequence] = answer
        return structs.replace(self, left_up_to=left_up_to, answers=kept)
