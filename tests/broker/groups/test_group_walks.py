"""Random lives of a group: members come, go, hang up, fall silent; writes are late or refused; coordinators follow one
another. Whatever happens, nobody commits for a generation that is not the log's, every
generation has one leader, and every call is answered once.
"""

import random

import pytest

from broker.groups.records import GroupMetadataValue, GroupRecord, OffsetRecord, read_record
from tests.broker.groups.conversation import Conversation
from wire.errors import ErrorCode
from wire.messages.join_group import JoinGroupResponse
from wire.messages.sync_group import SyncGroupResponse

PARTITIONS = 4
STEPS = 400


class Client:
    """One consumer, with a client's idea of the protocol."""

    def __init__(self, name: str, *, is_static: bool) -> None:
        self.name = name
        self.instance_id = name if is_static else None
        self.member_id = ""
        self.joining: int | None = None
        self.syncing: int | None = None
        self.told: JoinGroupResponse | None = None
        self.owned: list[int] = []

    def restart(self) -> None:
        self.member_id, self.joining, self.syncing, self.told, self.owned = "", None, None, None, []

    def lost(self, code: ErrorCode) -> None:
        """What a client makes of an error."""
        self.told, self.owned = None, []
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self.member_id = ""


class Walk:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        delay_ms = self.chance.choice([0, 0, 300])
        self.at = Conversation(is_prompt=False, initial_rebalance_delay_ms=delay_ms, members_max=5)
        count = self.chance.choice([2, 3, 6])
        self.clients = [Client(f"c{number}", is_static=number % 3 == 0) for number in range(count)]
        self.trouble = self.chance.choice([0.2, 1, 3])
        self.offset = 0

    # ---- what happens

    def step(self) -> None:
        client = self.chance.choice(self.clients)
        for one in self.clients:
            if self.chance.random() < 0.4:
                self.listen(one)
        does = [self.join, self.heartbeat, self.commit, self.write, self.time, self.rarely]
        (do,) = self.chance.choices(does, [1 if client.told else 4, 5, 6, 6, 2, self.trouble])
        do(client)
        self.check()

    def join(self, client: Client) -> None:
        if client.joining is None and client.syncing is None:
            version = self.chance.choice([3, 4, 9])
            client.joining = self.at.join(
                client.member_id, name=client.name, instance_id=client.instance_id, version=version,
                rebalance_timeout_ms=20_000,
            )  # fmt: skip

    def listen(self, client: Client) -> None:
        if client.joining in self.at.answers:
            told = self.at.joined(client.joining)
            client.joining = None
            self.hear_joined(client, told)
        elif client.syncing in self.at.answers:
            told = self.at.answers[client.syncing]
            client.syncing = None
            assert isinstance(told, SyncGroupResponse)
            if told.error_code:
                client.lost(ErrorCode(told.error_code))
            else:
                client.owned = list(told.assignment)

    def hear_joined(self, client: Client, told: JoinGroupResponse) -> None:
        if told.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = told.member_id
        elif told.error_code:
            client.lost(ErrorCode(told.error_code))
        else:
            client.member_id, client.told, client.owned = told.member_id, told, []
            ids = [member.member_id for member in told.members]
            shares = {one: bytes(range(at, PARTITIONS, len(ids))) for at, one in enumerate(ids)}
            client.syncing = self.at.sync(told, {} if told.skip_assignment else shares, instance_id=client.instance_id)

    def heartbeat(self, client: Client) -> None:
        if client.told is not None:
            code = self.at.heartbeat(client.told, instance_id=client.instance_id)
            if code is ErrorCode.REBALANCE_IN_PROGRESS:
                self.join(client)
            elif code is not ErrorCode.NONE:
                client.lost(code)

    def commit(self, client: Client) -> None:
        if client.told is None or not client.owned:
            return
        self.offset += 1
        told = client.told
        self.at.commit(
            self.offset, told.member_id, told.generation_id, instance_id=client.instance_id,
            partition=self.chance.choice(client.owned), metadata=f"{told.member_id} {told.generation_id}",
        )  # fmt: skip

    def write(self, _: Client) -> None:
        if self.at.in_doubt:
            self.at.commit_log(self.chance.randrange(1, len(self.at.in_doubt) + 1))

    def time(self, _: Client) -> None:
        self.at.wait(self.chance.choice([1, 100, 300, 4000]))

    def rarely(self, client: Client) -> None:
        does = [self.crash, self.double, self.leave, self.hang_up, self.late, self.refuse, self.fail_over]
        self.chance.choice(does)(client)

    def crash(self, client: Client) -> None:
        self.hang_up(client)
        client.restart()

    def double(self, client: Client) -> None:
        """Somebody starts a static member again while it still runs: the old one is fenced."""
        if client.instance_id is not None and len(self.clients) < 8:
            ghost = Client(client.name, is_static=True)
            ghost.__dict__.update(client.__dict__)
            self.clients.append(ghost)
            client.restart()

    def leave(self, client: Client) -> None:
        if client.member_id:
            self.at.leave(client.member_id, client.instance_id)
            self.hang_up(client)
            client.restart()

    def hang_up(self, client: Client) -> None:
        for call in (client.joining, client.syncing):
            if call is not None:
                self.at.hang_up(call)
        client.joining = client.syncing = None

    def late(self, _: Client) -> None:
        """Nobody knows in time whether it was written; it was."""
        for write in self.at.in_doubt:
            write.failed(ErrorCode.COORDINATOR_NOT_AVAILABLE, self.at.now)
        self.at.carry_out()

    def refuse(self, _: Client) -> None:
        self.at.refuse_writes(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def fail_over(self, _: Client) -> None:
        """Some of what was being written is in the log, the rest never will be."""
        kept = self.chance.randrange(len(self.at.in_doubt) + 1)
        for write in self.at.in_doubt[:kept]:
            self.at.log += write.records
        before, self.at = self.at, self.at.successor()
        for client in self.clients:
            self.listen_last(before, client)

    def listen_last(self, before: Conversation, client: Client) -> None:
        """An answer that had left before is heard, everybody else looks for the new coordinator."""
        for call in (client.joining, client.syncing):
            if call is not None and call in before.answers:
                self.at.answers[call] = before.answers[call]
        if client.joining not in self.at.answers:
            client.joining = None
        if client.syncing not in self.at.answers:
            client.syncing = None

    # ---- what must hold

    def check(self) -> None:
        group = self.at.core.groups.get("g")
        if group is None:
            return
        members = list(group.members)
        assert group.members.joining_count == sum(one.joining is not None for one in members)
        assert group.members.metadata_bytes == sum(one.metadata_bytes for one in members)
        assert len(members) <= 2 * 5
        if members and group.state != "PreparingRebalance":
            assert group.leader_id in {one.member_id for one in members}
        for member in members:
            is_watched = any(key.member_id == member.member_id for key in self.at.core.effects.deadlines._at_ms)
            assert is_watched or member.joining is not None or member.syncing is not None, "nobody watches it"

    def check_log(self) -> None:
        """Each commit is of a member of the generation that the log had last, and each generation rises."""
        last: GroupMetadataValue | None = None
        for key, value in self.at.log:
            record = read_record(key, value)
            match record:
                case GroupRecord(_, stored):
                    if stored is not None and last is not None and stored.members:
                        assert stored.generation >= last.generation
                    last = stored
                case OffsetRecord(_, _, committed):
                    assert committed is not None
                    member_id, generation_id = committed.metadata.split(" ")
                    assert last is not None
                    assert int(generation_id) == last.generation, "a commit of another generation"
                    assert member_id in {member.member_id for member in last.members}, "a commit of a stranger"

    def check_end(self) -> None:
        """What is safe in the log is what is told, and everybody is answered in the end."""
        self.at.commit_log()
        self.check_log()
        assert dict(self.at.core.offsets_of("g")) == dict(self.at.successor().core.offsets_of("g"))
        for _ in range(20):
            self.at.wait(30_000)
            self.at.commit_log()
        waiting = {client.joining for client in self.clients} | {client.syncing for client in self.clients}
        assert not {call for call in waiting if call is not None} - self.at.answers.keys(), "somebody waits for ever"


def walk(seed: int) -> Walk:
    made = Walk(seed)
    for _ in range(STEPS):
        made.step()
    made.check_end()
    return made


@pytest.mark.parametrize("_", range(25))
def test_any_life_of_a_group(_):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown where this fails
    walk(seed)


@pytest.mark.long
def test_many_lives():
    for seed in range(1500):
        print(f"seed {seed}")  # noqa: T201 - shown where this fails
        walk(seed)


def test_lives_are_full_of_events():
    """A walk that never commits proves nothing."""
    walks = [walk(seed) for seed in range(10)]
    logs = [read_record(*record) for made in walks for record in made.at.log]
    assert 50 < sum(isinstance(record, OffsetRecord) for record in logs)
    assert 50 < sum(isinstance(record, GroupRecord) for record in logs)
