"""What a broker says of damage: final where nobody else has the records, else a question for the next leader."""

from typing import Any

import pytest

from broker.clock import SystemClock
from broker.replication.surroundings import Surroundings
from logstore.log_answers import DamagedRangeError
from wire.errors import ErrorCode, RefusedError


def surroundings() -> Surroundings:
    room: Any = None
    return Surroundings(
        broker_id=1,
        clock=SystemClock(),
        waiting_room=room,
        lag_time_max_ms=30_000,
        epoch_in_service={2: 20}.get,
        wants_in_sync_change=lambda _: None,
        damaged=lambda _: None,
        is_heard=lambda: True,
    )


DAMAGED = DamagedRangeError("pay-0", offset=70, next_offset=110)


@pytest.mark.parametrize("in_sync_replicas", [(), (1,)])
def test_s18_the_last_copy_says_where_to_read_on(in_sync_replicas: tuple[int, ...]) -> None:
    assert DAMAGED is surroundings().damage_told(DAMAGED, "pay-0", in_sync_replicas)


def test_s1_nobody_reads_on_behind_damage_while_another_replica_has_the_records() -> None:
    """Told "read on at 110" a consumer would skip 40 records that two brokers still hold."""
    told = surroundings().damage_told(DAMAGED, "pay-0", (1, 2, 3))
    assert (ErrorCode.NOT_LEADER_OR_FOLLOWER, False) == (told.code, isinstance(told, DamagedRangeError))
    assert "hands pay-0 over" in told.message


def test_other_refusals_are_what_they_are() -> None:
    refused = RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is gone")
    assert refused is surroundings().damage_told(refused, "pay-0", (1, 2))
