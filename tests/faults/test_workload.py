"""What clients have sent is in the history whatever becomes of the client: else a record of theirs is a phantom."""

import random
from types import SimpleNamespace

import pytest

from tests.faults.client import Client
from tests.faults.harness import Deadline, wait_until
from tests.faults.history import Final, Outcome, Send
from tests.faults.workload import Workload


def workload(partitions: int = 1) -> Workload:
    node = SimpleNamespace(client=lambda: Client("127.0.0.1", 1))
    return Workload([node], "t", partitions, random.Random(1))


def test_what_was_sent_by_a_client_that_ended_with_an_error_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def odd(*_: object, **__: object) -> None:
        raise AssertionError("one batch, several outcomes")

    monkeypatch.setattr(Client, "send_batch", odd)
    made = workload()
    made.start(producers=1, pollers=0)
    wait_until(lambda: made._errors, "the client has ended")
    with pytest.raises(AssertionError, match="several outcomes"):
        made.stop()
    assert [] == made.history
    made.note_unanswered()
    (sent,) = made.history
    assert (Outcome.UNKNOWN, "t-0", "0/produce-0/0") == (sent.outcome, sent.partition, sent.values[0])


def test_an_answer_that_comes_after_it_was_given_up_is_not_noted_twice():
    made = workload()
    made._send_off(0, ("a",))
    made.note_unanswered()
    made._add([Send("t-0", ("a",), 0, 1, Outcome.ACKNOWLEDGED, (0,))])
    assert [Outcome.UNKNOWN] == [sent.outcome for sent in made.history]


def test_a_partition_that_cannot_be_read_keeps_no_other_from_being_read(monkeypatch: pytest.MonkeyPatch):
    def read_all(_: Client, topic: str, partition: int) -> Final:
        if partition == 0:
            raise ValueError("the batch at offset 0 is broken")
        return Final(f"{topic}-{partition}", ())

    monkeypatch.setattr(Client, "poll", lambda *_: True)
    monkeypatch.setattr(Client, "read_all", read_all)
    made = workload(partitions=2)
    with pytest.raises(ValueError, match="is broken"):
        made.read_everything(Deadline(60.0))
    assert ["t-1"] == [final.partition for final in made.history]
