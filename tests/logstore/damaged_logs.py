"""Logs of one-record batches, what may happen to their files, and what readers get of them afterwards."""

from logstore.log_answers import DamagedRangeError
from logstore.log_config import LogConfig
from tests.logstore.owner import TOPIC_ID, Owner, append, batch
from tests.logstore.simulated_storage import SimulatedStorage
from wire.errors import ErrorCode

CONFIG = LogConfig(index_interval_bytes=100)
BATCH_BYTES = len(batch([b"record-00"]))


def a_log(records=6, *, checkpointed=0, config=CONFIG):
    """Storage with a log of one-record batches, the first `checkpointed` of them below the recovery point."""
    storage = SimulatedStorage()
    owner = Owner(storage).open(config)
    log = owner.log(config=config)
    for index in range(records):
        if index == checkpointed:
            owner.settle()
            owner.directory.checkpoint()
            owner.settle()
        append(log, [b"record-%02d" % index], epoch=1 + index // 3)
    owner.settle()
    if checkpointed == records:
        owner.directory.checkpoint()
        owner.settle()
    storage.kill()
    return storage, log.segments[0].file.path


def reopen(storage, config=CONFIG):
    owner = Owner(storage).open(config)
    return owner, owner.directory.logs[TOPIC_ID, 0]


def cut_file(storage, path, size_bytes):
    file = storage.file(path)
    del file.live[size_bytes:]
    file.sync()


def flip(storage, path, position, bit=0):
    file = storage.file(path)
    file.live[position] ^= 1 << bit
    file.sync()


def records_around_damage(log):
    """Like `readable`, but slice by slice, so that a gap in the middle is met."""
    found, offset = [], log.log_start_offset
    while offset < log.log_end_offset:
        try:
            got = log.read(offset, max_bytes=1, upper_offset=log.log_end_offset, check_crc=True)
        except DamagedRangeError as damaged:
            assert ErrorCode.CORRUPT_MESSAGE is damaged.code  # noqa: PT017 - the loop goes on
            assert damaged.offset <= offset < damaged.next_offset  # noqa: PT017 - the loop goes on
            offset = damaged.next_offset
            continue
        found.append(got.base_offset)
        offset = got.next_offset
    return found
