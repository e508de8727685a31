"""Named checkers of what the metadata log commits, told of the images before and after each of its entries."""

from collections import Counter

from metadata.commands import ChangePartitions
from metadata.image import Image, Partition
from tests.broker.replication.model_checkers import ViolationError


def compared_and_set(before: Image, after: Image, command: object) -> None:
    """S9: whatever changed was computed from the state that it changes; who joins is in the life that was vouched for.

    Of a partition that one command changes twice nobody sees the state in between: it is left out.
    """
    if not isinstance(command, ChangePartitions):
        return
    times = Counter((one.topic_id, one.partition) for one in command.changes)
    for one in command.changes:
        key = one.topic_id, one.partition
        old, new = before.partition(*key), after.partition(*key)
        if old is None or new is None or old == new or times[key] > 1:
            continue
        if (one.expected_leader_epoch, one.expected_partition_epoch) != (old.leader_epoch, old.partition_epoch):
            raise ViolationError("S9", f"{old} was changed by what was computed from another state: {one}")
        told = dict(one.joining_broker_epochs)
        for joiner in {*new.in_sync_replicas} - {*old.in_sync_replicas}:
            lives = told.get(joiner), before.brokers[joiner].epoch
            if lives[0] != lives[1]:
                raise ViolationError("S9", f"{joiner} joins in life {lives[0]}, and is in life {lives[1]}")


def stays_calm(before: Image, after: Image) -> None:
    """S20: where only wall clocks jump nobody is fenced, nobody is elected, and nobody joins or leaves."""
    for broker_id, broker in after.brokers.items():
        known = before.brokers.get(broker_id)
        if known is not None and (known.epoch, known.fenced) != (broker.epoch, broker.fenced):
            raise ViolationError("S20", f"only clocks jumped, and {known} became {broker}")
    for topic_id, topic in after.topics.items():
        for index, state in enumerate(topic.partitions):
            old = before.partition(topic_id, index)
            if old is not None and _decided(old) != _decided(state):
                raise ViolationError("S20", f"only clocks jumped, and {old} became {state}")


def _decided(state: Partition) -> tuple[object, ...]:
    """What a timer can bring about."""
    return state.leader, state.leader_epoch, {*state.in_sync_replicas}, {*state.eligible_leader_replicas}
