"""A full disk refuses and recovers: reads and admin calls go on, nothing acknowledged is lost, and space that comes
back is used again (S19).

On a tmpfs of a few MiB, which needs the right to mount.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.client import Answer, Client
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, wait_until
from tests.faults.history import Final, Operation, Outcome

MIB = 1 << 20
DISK_BYTES = 24 * MIB
RESERVED_BYTES = 4 * MIB
RECORDS, RECORD_BYTES = 25, 8000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mount_point)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield mount_point
    unmounted = subprocess.run(["umount", str(mount_point)], check=False)
    if unmounted.returncode != 0:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


@pytest.fixture
def cluster(small_disk: Path, form: Form) -> Iterator[Cluster]:
    """One node, all of it on the small disk; dead before the disk goes."""
    cluster = form(
        1,
        f"log.dir.reserved.bytes={RESERVED_BYTES}",
        "log.retention.check.interval.ms=200",
        "log.flush.offset.checkpoint.interval.ms=200",
        "log.segment.bytes=1048576",
        directory=small_disk / "cluster",
    )
    yield cluster
    cluster.close()


def values(label: str) -> tuple[str, ...]:
    return tuple(f"{label}/{index}/".ljust(RECORD_BYTES, "x") for index in range(RECORDS))


def fill(client: Client, topic: str, history: list[Operation], label: str) -> Answer:
    """Produce until it is refused; the refusal."""
    for number in range(4 * DISK_BYTES // (RECORDS * RECORD_BYTES)):
        send, answer = client.send_batch(topic, number % 2, values(f"{topic}/{label}/{number}"))
        history.append(send)
        assert answer is not None
        if send.outcome is not Outcome.ACKNOWLEDGED:
            return answer
    raise AssertionError("the disk never became full")


def end_of(client: Client, topic: str) -> list[Final]:
    return [client.read_all(topic, partition) for partition in range(2)]


def is_written(client: Client, topic: str, history: list[Operation], label: str) -> bool:
    send, _ = client.send_batch(topic, 0, values(label))
    history.append(send)
    return send.outcome is Outcome.ACKNOWLEDGED


def test_a_full_disk_refuses_writes_and_nothing_else(cluster: Cluster):
    """Below the reserve: 507, `not_written`; reads, admin calls and the metadata journal go on; deleting makes room."""
    history: list[Operation] = []
    with cluster[1].client() as client:
        client.create_topic("kept", 2)
        client.create_topic("given-up", 2)
        history += [client.send_batch("kept", number % 2, values(f"kept/{number}"))[0] for number in range(8)]
        refusal = fill(client, "given-up", history, "fill")
        assert (507, "not_written") == (refusal.status, refusal.json()["outcome"])
        assert "log.dir.reserved.bytes" in refusal.json()["message"]

        assert [] == check([*history, *end_of(client, "kept"), *end_of(client, "given-up")])
        for number in range(50):
            assert client.create_topic(f"still-{number}").outcome is Outcome.ACKNOWLEDGED
        assert 507 == client.send_batch("still-7", 0, values("new topic"))[1].status

        assert 204 == client.request("DELETE", "/v3/clusters/-/topics/given-up").status
        wait_until(lambda: is_written(client, "kept", history, f"kept/again-{len(history)}"), "there is space again")
        history = [operation for operation in history if operation.partition.startswith("kept")]
        assert [] == check([*history, *end_of(client, "kept")])
        assert 200 == client.get("/readyz").status


def test_retention_makes_room_on_a_full_disk(cluster: Cluster):
    history: list[Operation] = []
    with cluster[1].client() as client:
        client.create_topic("rolling", 2)
        fill(client, "rolling", history, "fill")
        answer = client.request("PUT", "/v3/clusters/-/topics/rolling/configs/retention.bytes", b'{"value": "2097152"}')
        assert answer.status < 300, answer.body
        wait_until(lambda: is_written(client, "rolling", history, f"again-{len(history)}"), "there is space again")
        finals = end_of(client, "rolling")
        deleted_to = max(final.log_start_offset for final in finals)  # by retention
        assert [] == check([*history, *finals], deleted_to=deleted_to)


def test_kill_9_on_a_full_disk_loses_nothing_acknowledged(cluster: Cluster):
    history: list[Operation] = []
    node = cluster[1]
    with node.client() as client:
        client.create_topic("orders", 2)
        fill(client, "orders", history, "fill")
    for round_number in range(2):
        node.kill()
        cluster.restart_dead()
        with node.client() as client:
            refused = fill(client, "orders", history, f"round-{round_number}")
            assert 507 == refused.status
    with node.client() as client:
        assert [] == check([*history, *end_of(client, "orders")])


def test_a_disk_that_others_fill_to_the_last_byte_is_used_again_when_they_let_go(cluster: Cluster, small_disk: Path):
    """The reserve is no protection against others: no write succeeds at all, and still no partition goes for good."""
    history: list[Operation] = []
    ballast = small_disk / "ballast"
    with cluster[1].client() as client:
        client.create_topic("orders", 2)
        history += [client.send_batch("orders", number % 2, values(f"before/{number}"))[0] for number in range(6)]
        occupy(ballast)
        send, answer = client.send_batch("orders", 0, values("during"))
        history.append(send)
        assert answer is not None
        assert (507, Outcome.REFUSED) == (answer.status, send.outcome)
        assert [] == check([*history, *end_of(client, "orders")])
        rest(client)
        ballast.unlink()
        wait_until(lambda: is_written(client, "orders", history, f"after-{len(history)}"), "there is space again")
        assert [] == check([*history, *end_of(client, "orders")])
        assert [] == client.get("/v3/clusters/-/health").json()["reasons"]


def occupy(ballast: Path) -> None:
    """Take every free byte of the disk."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(MIB // 16)):
            pass


def rest(client: Client) -> None:
    """A second, in which checkpoints and retention are tried on a disk without a free byte."""
    path = "/v3/clusters/-/topics/orders/partitions/0/records?offset=latest&timeout=1000"
    assert 200 == client.get(path).status
