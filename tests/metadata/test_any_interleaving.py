"""Whatever the order in which proposals of two controllers, one of them deposed, reach the log: no invariant breaks.

Proposals are decided on images of any age, delivered in any order, twice, or late. After every entry the image is
judged.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from metadata import codec
from metadata.answers import ProducerIdsAllocated
from metadata.apply import apply
from metadata.circumstances import TopicPolicy
from metadata.commands import ChangePartitions, Command, Proposal
from metadata.controller import Controller, ControllerSettings
from metadata.delta import Delta
from metadata.image import CommandId, Endpoint, Image, Partition
from metadata.requests import (
    AllocateProducerIdsRequest,
    AlterConfigsRequest,
    AlterPartitionRequest,
    ConfigChange,
    CreatePartitionsRequest,
    CreateTopicRequest,
    DeleteTopicRequest,
    ElectLeadersRequest,
    Heartbeat,
    InSyncReplicasChange,
    LostReplicasRequest,
    PartitionName,
    PartitionReassignment,
    ReassignPartitionsRequest,
    RegistrationRequest,
    SetReplicationThrottleRequest,
    UnregisterBrokerRequest,
)
from tests.metadata.holders import Holders
from tests.metadata.world import CLUSTER_ID, an_id
from wire.errors import RefusedError

BROKERS = st.integers(1, 4)
CONTROLLERS = st.integers(0, 1)
NAMES = st.sampled_from(["a.b", "a_b", "c"])
SETTINGS = ControllerSettings(topics=TopicPolicy())


class MetadataMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.log: list[bytes] = []
        self.images = [Image.empty(CLUSTER_ID)]
        self.deltas = [Delta()]
        self.now_ms = 0
        self.numbers = iter(range(1, 10**9))
        self.controllers = [Controller(SETTINGS), Controller(SETTINGS)]
        self.seen = [0, 0]
        self.on_the_way: list[Proposal] = []
        self.leaders: dict = {}
        self.holders = Holders()
        self.producer_ids: set[int] = set()
        for controller in self.controllers:
            controller.activated(self.images[0], self.now_ms)
        for broker_id in (1, 2, 3, 4):
            self.register(0, broker_id, restarts=True, clean=True, wiped=False)
            self.deliver_all()
            self.catch_up(0, 0)
            self.beat(0, broker_id, shutdown=False, fence=False)
        self.tick(0, 0)
        self.deliver_all()
        self.catch_up(0, 0)
        self.create(0, "c", replicas=[1, 2, 3], relaxed=False)
        self.deliver_all()

    @property
    def image(self) -> Image:
        return self.images[-1]

    def view(self, controller: int) -> Image:
        return self.images[self.seen[controller]]

    def deliver_all(self):
        while self.on_the_way:
            self.deliver(0, twice=False)

    # What may happen

    @rule(controller=CONTROLLERS, behind=st.integers(0, 6))
    def catch_up(self, controller, behind):
        newest = max(self.seen[controller], len(self.images) - 1 - behind)
        self.seen[controller] = newest

    @rule(position=st.integers(0, 20), twice=st.booleans())
    def deliver(self, position, twice):
        if not self.on_the_way:
            return
        position %= len(self.on_the_way)
        proposal = self.on_the_way[position] if twice else self.on_the_way.pop(position)
        data = codec.encode_proposal(proposal)
        before = self.image
        self.log.append(data)
        after, delta, answer = apply(before, len(self.log), codec.decode_proposal(data))
        self.images.append(after)
        self.deltas.append(delta)
        self.judge(before, after, delta, proposal.command)
        self.holders.see(before, after, proposal.command)
        if isinstance(answer, ProducerIdsAllocated) and before.next_producer_id != after.next_producer_id:
            assert answer.first_producer_id not in self.producer_ids
            self.producer_ids.add(answer.first_producer_id)

    @rule(controller=CONTROLLERS, broker_id=BROKERS, restarts=st.booleans(), clean=st.booleans(), wiped=st.booleans())
    def register(self, controller, broker_id, restarts, clean, wiped):
        known = self.view(controller).brokers.get(broker_id)
        fresh = an_id(next(self.numbers))
        request = RegistrationRequest(
            broker_id=broker_id,
            cluster_id=CLUSTER_ID,
            incarnation_id=fresh if restarts or known is None else known.incarnation_id,
            directory_ids=(fresh,) if wiped or known is None else known.directory_ids,
            http=Endpoint("h", 1),
            peer=Endpoint("h", 2),
            clean_shutdown=clean,
        )
        self.attempt(lambda c, image: c.register(image, request, now_ms=self.now_ms), controller)

    @rule(controller=CONTROLLERS, broker_id=BROKERS, shutdown=st.booleans(), fence=st.booleans())
    def beat(self, controller, broker_id, shutdown, fence):
        known = self.image.brokers.get(broker_id)
        if known is None:
            return
        heartbeat = Heartbeat(
            broker_id=broker_id,
            broker_epoch=known.epoch,
            applied_index=self.image.applied_index,
            wants_shutdown=shutdown and fence,
            wants_fence=fence and not shutdown,
        )
        self.attempt(lambda c, image: c.heard(image, heartbeat, now_ms=self.now_ms), controller)

    @rule(controller=CONTROLLERS, later_ms=st.sampled_from([0, 100, 1500, 6500]))
    def tick(self, controller, later_ms):
        self.now_ms += later_ms
        self.on_the_way += self.controllers[controller].tick(self.view(controller), self.now_ms)

    @rule(controller=CONTROLLERS, name=NAMES, replicas=st.permutations([1, 2, 3]), relaxed=st.booleans())
    def create(self, controller, name, replicas, relaxed):
        configs = [ConfigChange(name="min.insync.replicas", value="2")]
        if relaxed:
            configs.append(ConfigChange(name="flush.messages", value="9"))
        assignments = (tuple(replicas), tuple(reversed(replicas)))
        self.wish(controller, CreateTopicRequest(name=name, replicas_assignments=assignments, configs=tuple(configs)))

    @rule(controller=CONTROLLERS, name=NAMES)
    def delete(self, controller, name):
        self.wish(controller, DeleteTopicRequest(name=name))

    @rule(controller=CONTROLLERS, name=NAMES, minimum=st.sampled_from(["1", "2", "3"]))
    def alter(self, controller, name, minimum):
        self.wish(
            controller,
            AlterConfigsRequest(name=name, changes=(ConfigChange(name="min.insync.replicas", value=minimum),)),
        )

    @rule(controller=CONTROLLERS, name=NAMES, count=st.integers(2, 4))
    def grow(self, controller, name, count):
        self.wish(controller, CreatePartitionsRequest(name=name, partitions_count=count))

    @rule(controller=CONTROLLERS, broker_id=BROKERS, name=NAMES)
    def lose(self, controller, broker_id, name):
        topic, broker = self.view(controller).topic(name), self.view(controller).brokers.get(broker_id)
        if topic is not None and broker is not None:
            replicas = ((topic.topic_id, 0),)
            self.wish(
                controller,
                LostReplicasRequest(broker_id=broker_id, broker_epoch=broker.epoch, loss="MISSING", replicas=replicas),
            )

    @rule(controller=CONTROLLERS, broker_id=BROKERS, name=NAMES)
    def join(self, controller, broker_id, name):
        """A leader asks for a follower that has caught up, as it saw the cluster then."""
        image = self.view(controller)
        topic, broker = image.topic(name), image.brokers.get(broker_id)
        if topic is None or broker is None or topic.partitions[0].leader == -1:
            return
        state = topic.partitions[0]
        self.leader_wishes(controller, topic, {*state.in_sync_replicas, broker_id})

    @rule(controller=CONTROLLERS, broker_id=BROKERS, name=NAMES)
    def leave(self, controller, broker_id, name):
        """A leader drops a follower that has fallen behind."""
        topic = self.view(controller).topic(name)
        if topic is not None and broker_id != topic.partitions[0].leader:
            self.leader_wishes(controller, topic, {*topic.partitions[0].in_sync_replicas} - {broker_id})

    def leader_wishes(self, controller, topic, in_sync):
        image, state = self.view(controller), topic.partitions[0]
        if state.leader == -1 or not in_sync <= set(state.replicas):
            return
        change = InSyncReplicasChange(
            topic_id=topic.topic_id,
            partition=0,
            leader_epoch=state.leader_epoch,
            partition_epoch=state.partition_epoch,
            in_sync_replicas=tuple((r, image.brokers[r].epoch) for r in sorted(in_sync)),
        )
        request = AlterPartitionRequest(
            broker_id=state.leader, broker_epoch=state.leader_broker_epoch, changes=(change,)
        )
        self.wish(controller, request)

    @rule(
        controller=CONTROLLERS,
        name=NAMES,
        replicas=st.none() | st.lists(BROKERS, min_size=1, max_size=3, unique=True).map(tuple),
    )
    def move(self, controller, name, replicas):
        wish = PartitionReassignment(name=name, partition=0, replicas=replicas)
        self.wish(controller, ReassignPartitionsRequest(assignments=(wish,)))

    @rule(
        controller=CONTROLLERS,
        name=NAMES,
        election=st.sampled_from(["PREFERRED", "DESIGNATED", "UNCLEAN"]),
        leader=st.none() | BROKERS,
    )
    def choose(self, controller, name, election, leader):
        partitions = (PartitionName(name=name, partition=0), PartitionName(name=name, partition=1))
        self.wish(controller, ElectLeadersRequest(partitions=partitions, election=election, leader=leader))

    @rule(controller=CONTROLLERS, broker_id=BROKERS)
    def forget(self, controller, broker_id):
        self.wish(controller, UnregisterBrokerRequest(broker_id=broker_id))

    @rule(controller=CONTROLLERS, broker_id=BROKERS)
    def allocate(self, controller, broker_id):
        broker = self.view(controller).brokers.get(broker_id)
        if broker is not None:
            self.wish(controller, AllocateProducerIdsRequest(broker_id=broker_id, broker_epoch=broker.epoch))

    @rule(controller=CONTROLLERS, bytes_per_s=st.none() | st.integers(1, 3))
    def throttle(self, controller, bytes_per_s):
        self.wish(controller, SetReplicationThrottleRequest(bytes_per_s=bytes_per_s))

    def wish(self, controller, request):
        proposer = self.view(controller).brokers.get(1)
        sequence = next(self.numbers)
        command_id = proposer and CommandId(broker_id=1, broker_epoch=proposer.epoch, sequence=sequence)
        self.attempt(
            lambda c, image: c.decide(
                image, request, command_id=command_id, new_id=an_id(2**100 + sequence), now_ms=self.now_ms
            ),
            controller,
        )

    def attempt(self, ask, controller):
        try:
            decided = ask(self.controllers[controller], self.view(controller))
        except RefusedError:
            return
        if isinstance(decided, Proposal):
            self.on_the_way.append(decided)

    # What must hold

    def judge(self, before: Image, after: Image, delta: Delta, command: Command):
        assert len(self.log) == after.applied_index
        assert Delta.between(before, after) == delta
        rebuilt = Image.of(
            CLUSTER_ID,
            after.cluster_metadata_version,
            applied_index=after.applied_index,
            topics=after.topics.values(),
            brokers=after.brokers.values(),
            answers=after.answers,
            next_producer_id=after.next_producer_id,
            replication_throttle_bytes_per_s=after.replication_throttle_bytes_per_s,
        )
        assert rebuilt == after
        for topic_id, index in delta.partitions():
            new = after.topics[topic_id].partitions[index]
            self.judge_partition(after, new)
            if (old := before.partition(topic_id, index)) is not None:
                unclean = isinstance(command, ChangePartitions) and any(
                    c.unclean and (c.topic_id, c.partition) == (topic_id, index) for c in command.changes
                )
                self.judge_step(before, after, old, new, unclean=unclean)
            owner = self.leaders.setdefault((topic_id, index, new.leader_epoch), (new.leader, new.leader_broker_epoch))
            assert (new.leader, new.leader_broker_epoch) == owner, "S4: one leader per leader epoch"

    def judge_partition(self, image: Image, partition: Partition):
        in_sync, eligible = set(partition.in_sync_replicas), set(partition.eligible_leader_replicas)
        assert not in_sync & eligible
        assert in_sync | eligible <= set(partition.replicas)
        replicas, adding, removing = (
            set(some) for some in (partition.replicas, partition.adding_replicas, partition.removing_replicas)
        )
        assert len(replicas) == len(partition.replicas), "no replica twice"
        assert replicas - adding, "there is always a replica that was one before"
        assert adding | removing <= replicas
        assert not adding & removing
        assert (replicas - adding if adding or removing else set()) == set(partition.original_replicas)
        assert replicas <= image.brokers.keys()
        assert partition.leader == -1 or partition.leader in in_sync
        assert (partition.leader == -1) == (partition.leader_broker_epoch == -1)

    def judge_step(self, before: Image, after: Image, old: Partition, new: Partition, *, unclean: bool):
        assert new.partition_epoch > old.partition_epoch, "S4: partition epochs grow"
        assert new.leader_epoch >= old.leader_epoch, "S4: leader epochs never fall"
        had = {*old.in_sync_replicas, *old.eligible_leader_replicas, old.last_known_leader}
        assert set(new.eligible_leader_replicas) <= had, "S3: nobody becomes eligible out of nothing"
        if new.leader not in (-1, old.leader):
            assert new.leader in had or unclean, "L2: no unclean leader"
            assert after.brokers[new.leader].in_service
        for joined in set(new.in_sync_replicas) - set(old.in_sync_replicas):
            assert before.brokers[joined].in_service, "S9: who joins is in service"
        for added in set(new.replicas) - set(old.replicas):
            assert added in new.adding_replicas, "who is new has to catch up before it counts"

    @invariant()
    def a_restart_voids_leadership(self):
        """S10: whoever leads was elected in its current broker epoch."""
        for topic in self.image.topics.values():
            for index, partition in enumerate(topic.partitions):
                leader = self.image.leader_of(topic, index)
                assert leader is None or (leader.epoch, False) == (partition.leader_broker_epoch, leader.fenced)

    def teardown(self):
        if not getattr(self, "log", None):
            return
        middle = len(self.log) // 2
        whole, rest = Image.empty(CLUSTER_ID), codec.decode_snapshot(codec.encode_snapshot(self.images[middle]))
        merged = Delta()
        for index, data in enumerate(self.log, start=1):
            whole = apply(whole, index, codec.decode_proposal(data)).image
            if index > middle:
                rest, delta, _ = apply(rest, index, codec.decode_proposal(data))
                merged = merged.merge(delta)
        assert self.image == whole, "apply is deterministic"
        assert self.image == rest, "a snapshot and the entries after it are the whole log"
        self.judge_merged(merged, Delta.between(self.images[middle], self.image))

    def judge_merged(self, merged: Delta, exact: Delta):
        assert exact.created_topics == merged.created_topics
        assert exact.deleted_topics.keys() == merged.deleted_topics.keys()
        assert exact.changed_partitions == merged.changed_partitions
        assert exact.changed_configs <= merged.changed_configs
        assert exact.changed_brokers <= merged.changed_brokers


MetadataMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_any_interleaving_keeps_the_invariants = MetadataMachine.TestCase
