"""A member of a group for `kraft consume -g`: reads what the group gives it, commits what was printed, hands over.

Owns its consumer instance at the cluster: makes it, and makes it anew where it is gone or where an answer was lost on
the way. Invariants: what is committed was printed before; what was printed and not committed is printed again, by
whoever reads on; whatever ends the command, the instance leaves its group where anybody can be told.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure, segment
from cli.record_format import ConsumedRecord, from_answer

INSTANCE_TIMEOUT_MS: Final = 30_000
"""A consumer that was killed, or whose output nobody takes for so long, gives its partitions to others."""
ATTEMPT_S: Final = 5.0
"""So much longer than it was asked to wait may a node take."""
LEAVE_TIMEOUT_S: Final = 5.0
POLL_BYTES: Final = 2 << 20
INSTANCE_GONE: Final = 40403
INSTANCE_EXISTS: Final = 40902
DAMAGED: Final = 50002
Notice = Callable[[str], None]


class GroupConsumer:
    """In a `with` block, so that it leaves however the command ends."""

    def __init__(self, client: HttpClient, group_id: str, topics: Sequence[str], *, reset: str, notice: Notice) -> None:
        """`reset`: where to begin where the group has committed nothing, `earliest` or `latest`."""
        self.lost_records = 0
        self._client = client
        self._group_id = group_id
        self._topics = list(topics)
        self._reset = reset
        self._notice = notice
        self._path: str | None = None
        self._is_printed = False

    def __enter__(self) -> Self:
        for topic in self._topics:
            self._client.get(f"{CLUSTER}/topics/{segment(topic)}")  # who subscribes to nothing waits for ever
        self._join()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # what was asked when the command was interrupted may still be answered there
        self._client.timeout_s = min(self._client.timeout_s, LEAVE_TIMEOUT_S)
        with contextlib.suppress(Failure):
            if self._path is not None:
                self.commit()
            if self._path is not None:
                self._client.request("DELETE", self._path)

    def pull(self, *, wait_ms: int, max_records: int | None) -> list[ConsumedRecord]:
        """The next records; none where none came in time, or where it had to join anew."""
        if self._path is None:
            self._join()
        bound = "" if max_records is None else f"&max_records={max_records}"
        path = f"{self._path}/records?format=auto&timeout={wait_ms}&max_bytes={POLL_BYTES}{bound}"
        wait_s = wait_ms / 1000
        try:
            answer = self._client.request("GET", path, wait_s=wait_s, attempt_s=wait_s + ATTEMPT_S).document()
        except RequestFailure as failure:
            if failure.error_code == DAMAGED and "partition" in failure.document:
                self._skip_damaged(failure.document)
            elif failure.error_code == INSTANCE_GONE or failure.outcome_is_unknown:
                self._lost("the group's coordinator has changed")
            else:
                raise
            return []
        except Failure as failure:
            if failure.exit_code is not ExitCode.UNAVAILABLE:
                raise
            self._lost(failure.message)  # the answer may have held records: a new instance gets them again
            return []
        pulled: list[ConsumedRecord] = []
        for part in answer["partition_data_list"]:
            pulled += from_answer(part["topic_name"], part["records"])
        if not pulled:
            self.printed()
            with contextlib.suppress(Failure):  # whoever reads on begins here, and not at what is the end by then
                self.commit(retry=False)
        return pulled

    def printed(self) -> None:
        """All that was pulled: the next `commit` says so."""
        self._is_printed = True

    def commit(self, *, retry: bool = True) -> None:
        """Commit where it stands, where all before was printed; also of partitions that had nothing yet, so that the
        group knows where it began with them.
        """
        if not self._is_printed or self._path is None:
            return
        try:
            self._client.request("POST", f"{self._path}/offsets", repeatable=True, retry=retry)
        except RequestFailure as failure:
            if failure.error_code != INSTANCE_GONE:
                raise
            self._lost("the group's coordinator has changed, what was printed last may come again")
        self._is_printed = False  # not before: Ctrl-C in the middle of it commits once more on the way out

    def _join(self) -> None:
        """A new instance, at whichever node answers."""
        settings = {
            "auto.offset.reset": self._reset,
            "auto.commit.enable": False,
            "consumer.instance.timeout.ms": INSTANCE_TIMEOUT_MS,
        }
        base = f"/consumers/{segment(self._group_id)}"
        made = None
        while made is None:
            named = settings | {"name": f"kraft-consume-{os.getpid()}-{secrets.token_hex(4)}"}
            try:
                made = self._client.send("POST", base, named, repeatable=True, patient=True)
            except RequestFailure as failure:
                if failure.error_code != INSTANCE_EXISTS:
                    raise  # else an attempt whose answer was lost has made it: it ends by itself
        self._path = f"{base}/instances/{segment(made['instance_id'])}"
        subscription = f"{self._path}/subscription"
        try:
            self._client.send("POST", subscription, {"topics": self._topics}, repeatable=True, patient=True)
        except RequestFailure as failure:
            if failure.error_code != INSTANCE_GONE:
                raise
            self._path = None

    def _lost(self, why: str) -> None:
        """The next pull joins anew; the old instance, where it lives, need not be waited for."""
        path, self._path, self._is_printed = self._path, None, False
        self._notice(f"kraft: group {self._group_id}: {why}; joining again")
        timeout_s, self._client.timeout_s = self._client.timeout_s, LEAVE_TIMEOUT_S
        with contextlib.suppress(Failure):
            self._client.request("DELETE", f"{path}", retry=False)
        self._client.timeout_s = timeout_s

    def _skip_damaged(self, document: Any) -> None:
        """The disk lost a range: say so, and go on behind it, as no retry brings it back."""
        topic, partition, following = document["topic"], document["partition"], document["next_offset"]
        first = document["offset"]
        self._notice(
            f"kraft: {topic} partition {partition}: offsets {first} to {following - 1} are damaged on its disk, going"
            f" on at {following}"
        )
        self.lost_records += following - first
        position = {"topic": topic, "partition": partition, "offset": following}
        self._client.send("POST", f"{self._path}/positions", {"offsets": [position]}, repeatable=True)
