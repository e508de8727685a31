"""What the active controller decides, from the image, from whom it has heard, and from the time that it is told.

Owns the sessions of brokers: they live in memory, so a new controller knows nobody until it is heard by them; it
places only on brokers that have sent it a heartbeat and fences one never heard from after one session timeout.
Refuses to remember anything else: whatever it decides goes through the log and comes back in the image.

Everything that it proposes of itself carries a precondition, so it may be proposed again, late, or by two controllers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from msgspec import structs

from metadata.answers import AdminAnswer, HeartbeatAnswer, RegistrationAnswer
from metadata.bounds import MAX_CHANGES_PER_COMMAND
from metadata.broker_entries import in_service_again
from metadata.circumstances import Circumstances, TopicPolicy
from metadata.commands import (
    BeginControlledShutdown,
    ChangePartitions,
    Command,
    FenceBroker,
    Proposal,
    RegisterBroker,
    UnfenceBroker,
)
from metadata.decisions import DecidedRequest, decide
from metadata.elections import Election, SettledTopics, elect
from metadata.image import Broker, CommandId, Image, Topic
from metadata.leader_balance import preferred_elections
from metadata.requests import Heartbeat, RegistrationRequest
from wire.errors import ErrorCode, RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """When silence means death, and what topics may be like."""

    session_timeout_ms: int = 6000
    """With heartbeats every 0.5 s a dozen must be lost in a row before a broker is fenced."""
    proposal_retry_ms: int = 1000
    """A proposal that did not show in the image by then is made again; it is harmless twice."""
    rebalances_leaders: bool = True
    """Kafka's `auto.leader.rebalance.enable`: give leadership back to the preferred replicas from time to time."""
    leader_imbalance_check_interval_ms: int = 300_000
    leader_imbalance_per_broker_percentage: int = 10
    """A broker is left alone while no more of its preferred partitions than this are led by others."""
    topics: TopicPolicy = field(default_factory=TopicPolicy)


@dataclass(slots=True, kw_only=True)
class Session:
    """The last heartbeat of one broker epoch."""

    broker_epoch: int
    heard_ms: int
    applied_index: int
    wants_fence: bool
    wants_shutdown: bool
    reported_lost_replicas: bool


class Controller:
    """Decisions of the active controller. `now_ms` is monotonic time; every method is a plain call that does no
    waiting.
    """

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._sessions: dict[int, Session] = {}
        self._activated_ms = 0
        self._heard_before_ms: dict[int, int] = {}
        self._proposed_ms: dict[Command, int] = {}
        self._looked_at: tuple[Mapping[UUID, Topic], Mapping[int, Broker]] | None = None
        self._settled = SettledTopics()
        self._election = Election()
        self._balanced_ms = 0

    def activated(self, image: Image, now_ms: int, heard_ms: Mapping[int, int] | None = None) -> None:
        """This node leads the quorum and has applied all that was committed before (`barrier`): begin with no memory.

        `heard_ms`: brokers whose silence is known to have begun before, as that of the leader whose end brought this
        turn; every other one is given a whole session timeout to be heard.
        """
        assert image.applied_index >= 0
        self._sessions.clear()
        self._heard_before_ms = dict(heard_ms or {})
        self._proposed_ms.clear()
        self._looked_at = None
        self._activated_ms = self._balanced_ms = now_ms

    def register(self, image: Image, request: RegistrationRequest, *, now_ms: int) -> Proposal | RegistrationAnswer:
        """What to propose for a starting broker; an answer where this incarnation is registered already.

        Raises RefusedError: INCONSISTENT_CLUSTER_ID; DUPLICATE_BROKER_REGISTRATION while another incarnation with other
        directories is alive (KIP-631). The same directories prove a restart: a process holds the lock of its
        directories until it dies, so the newcomer need not wait for the old session to end.
        """
        if request.cluster_id != image.cluster_id:
            raise RefusedError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"broker {request.broker_id} belongs to cluster_id {request.cluster_id!r}, not to this one "
                f"({image.cluster_id!r}): use another data directory",
            )
        existing = image.brokers.get(request.broker_id)
        if existing is not None and existing.incarnation_id == request.incarnation_id:
            return RegistrationAnswer(index=image.applied_index, broker_epoch=existing.epoch)
        if existing is not None and self._is_in_use(existing, now_ms) and not _is_restart(existing, request):
            raise RefusedError(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION,
                f"node.id {request.broker_id} is in use by a running broker at {existing.peer.host}:"
                f"{existing.peer.port}: give this node another node.id, or stop the other one",
            )
        return Proposal(command=_registration(request, -1 if existing is None else existing.epoch))

    def heard(self, image: Image, heartbeat: Heartbeat, *, now_ms: int) -> HeartbeatAnswer:
        """Take note of a heartbeat; what follows from it comes from the next `tick`.

        Raises RefusedError(BROKER_ID_NOT_REGISTERED | STALE_BROKER_EPOCH): that process must register again.
        """
        broker = image.brokers.get(heartbeat.broker_id)
        if broker is None:
            raise RefusedError(
                ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker_id {heartbeat.broker_id} is not registered: register first"
            )
        if broker.epoch != heartbeat.broker_epoch:
            raise RefusedError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"broker_epoch {heartbeat.broker_epoch} of broker {broker.broker_id} is over, its current one is "
                f"{broker.epoch}",
            )
        self._sessions[broker.broker_id] = Session(
            broker_epoch=heartbeat.broker_epoch,
            heard_ms=now_ms,
            applied_index=heartbeat.applied_index,
            wants_fence=heartbeat.wants_fence,
            wants_shutdown=heartbeat.wants_shutdown,
            reported_lost_replicas=heartbeat.reported_lost_replicas,
        )
        return HeartbeatAnswer(
            index=image.applied_index,
            is_caught_up=heartbeat.applied_index >= broker.epoch,
            is_fenced=broker.fenced,
            should_shut_down=broker.fenced and heartbeat.wants_shutdown,
        )

    def decide(
        self, image: Image, request: DecidedRequest, *, command_id: CommandId | None, new_id: UUID, now_ms: int
    ) -> Proposal | AdminAnswer:
        """What to propose for a request, or the answer where there is nothing to propose (it was answered before, it is
        only to be validated, it is so already). `new_id`: a fresh random uuid; it becomes the topic's id, and placement
        draws on its bits. Raises RefusedError.
        """
        first = None if command_id is None else image.first_answer(command_id)
        if first is not None:
            return first
        at = Circumstances(
            image=image,
            usable_brokers=self.usable_brokers(image, now_ms),
            policy=self._settings.topics,
            new_id=new_id,
        )
        decision = decide(request, at)
        return Proposal(command=decision, command_id=command_id) if isinstance(decision, Command) else decision

    def usable_brokers(self, image: Image, now_ms: int) -> tuple[int, ...]:
        """The brokers that may be given new partitions: in service, and heard within the session timeout."""
        return tuple(sorted(b.broker_id for b in image.brokers.values() if b.in_service and self._is_alive(b, now_ms)))

    def tick(self, image: Image, now_ms: int) -> list[Proposal]:
        """What is due now, to be proposed in this order; call it about every 100 ms, after a heartbeat, and after an
        image with changed brokers or partitions.

        Fences the silent and the stopping, takes leaderships from them, unfences those that are heard and caught up and
        from whom nothing is left to take, elects, and ends the moves that have arrived; where nothing of that is due,
        leadership goes back to preferred replicas from time to time. A glance at a few sessions when nothing changed.
        """
        commands: list[Command] = list(self._leaving(image, now_ms))
        election = self._elect_as_if(image, _as_if(image.brokers, commands)) if commands else self._elect(image)
        returning = [b for b in image.brokers.values() if b.fenced and self._may_return(b, election, now_ms)]
        if returning:
            commands += [UnfenceBroker(broker_id=b.broker_id, broker_epoch=b.epoch) for b in returning]
            election = self._elect_as_if(image, _as_if(image.brokers, commands))
        commands += _split(election)
        if not commands:
            self._proposed_ms.clear()
            commands += self._balance(image, now_ms)
        return [Proposal(command=command) for command in commands if self._is_due(command, now_ms)]

    def _balance(self, image: Image, now_ms: int) -> Iterator[ChangePartitions]:
        """Elections of preferred leaders, at the next tick again where there are more than fit one command."""
        settings = self._settings
        if not settings.rebalances_leaders or now_ms - self._balanced_ms < settings.leader_imbalance_check_interval_ms:
            return
        changes = preferred_elections(
            image, self.usable_brokers(image, now_ms), percentage=settings.leader_imbalance_per_broker_percentage
        )
        if len(changes) < MAX_CHANGES_PER_COMMAND:
            self._balanced_ms = now_ms
        if changes:
            yield ChangePartitions(cause="back to the preferred leaders", changes=tuple(changes))

    def _leaving(self, image: Image, now_ms: int) -> Iterator[FenceBroker | BeginControlledShutdown]:
        for broker in image.brokers.values():
            if broker.fenced:
                continue
            session = self._session(broker)
            silent = now_ms - self._heard_ms(broker, session) > self._settings.session_timeout_ms
            wants_fence = session is not None and session.wants_fence
            if silent or wants_fence or (broker.in_controlled_shutdown and _has_handed_over(image, broker.broker_id)):
                yield FenceBroker(broker_id=broker.broker_id, broker_epoch=broker.epoch)
            elif session is not None and session.wants_shutdown and not broker.in_controlled_shutdown:
                yield BeginControlledShutdown(broker_id=broker.broker_id, broker_epoch=broker.epoch)

    def _may_return(self, broker: Broker, election: Election, now_ms: int) -> bool:
        session = self._session(broker)
        return (
            session is not None
            and self._is_alive(broker, now_ms)
            and not session.wants_fence
            and not session.wants_shutdown
            and not broker.in_controlled_shutdown
            and session.applied_index >= broker.epoch
            and (session.reported_lost_replicas or broker.lost_everything or not broker.lost_directory_ids)
            and broker.broker_id not in election.demoted
        )

    def _elect(self, image: Image) -> Election:
        """As `elect`, but looking only at what is another value than at the last look."""
        if self._looked_at is None or self._looked_at[1] is not image.brokers:
            self._settled = SettledTopics()
        elif self._looked_at[0] is image.topics:
            return self._election
        self._election = self._elect_as_if(image, image.brokers, self._settled)
        self._looked_at = (image.topics, image.brokers)
        return self._election

    def _elect_as_if(
        self, image: Image, brokers: Mapping[int, Broker], settled: SettledTopics | None = None
    ) -> Election:
        return elect(image, brokers, self._settings.topics.broker_defaults, settled)

    def _is_due(self, command: Command, now_ms: int) -> bool:
        """False while the same proposal of a moment ago may still be on its way."""
        proposed_ms = self._proposed_ms.get(command)
        if proposed_ms is not None and now_ms - proposed_ms < self._settings.proposal_retry_ms:
            return False
        self._proposed_ms[command] = now_ms
        return True

    def _heard_ms(self, broker: Broker, session: Session | None) -> int:
        if session is not None:
            return session.heard_ms
        return min(self._activated_ms, self._heard_before_ms.get(broker.broker_id, self._activated_ms))

    def _session(self, broker: Broker) -> Session | None:
        session = self._sessions.get(broker.broker_id)
        return session if session is not None and session.broker_epoch == broker.epoch else None

    def _is_in_use(self, broker: Broker, now_ms: int) -> bool:
        """Alive, and not one that was told that it may stop."""
        session = self._session(broker)
        said_goodbye = session is not None and session.wants_shutdown and broker.fenced
        return self._is_alive(broker, now_ms) and not said_goodbye

    def _is_alive(self, broker: Broker, now_ms: int) -> bool:
        session = self._session(broker)
        return session is not None and now_ms - session.heard_ms <= self._settings.session_timeout_ms


def _registration(request: RegistrationRequest, expected_broker_epoch: int) -> RegisterBroker:
    return RegisterBroker(
        broker_id=request.broker_id,
        expected_broker_epoch=expected_broker_epoch,
        incarnation_id=request.incarnation_id,
        directory_ids=request.directory_ids,
        http=request.http,
        peer=request.peer,
        listeners=request.listeners,
        replication_listener=request.replication_listener,
        rack=request.rack,
        clean_shutdown=request.clean_shutdown,
        metadata_version_max=request.metadata_version_max,
    )


def _is_restart(existing: Broker, request: RegistrationRequest) -> bool:
    return bool(request.directory_ids) and not set(request.directory_ids).isdisjoint(existing.directory_ids)


def _as_if(brokers: Mapping[int, Broker], commands: list[Command]) -> Mapping[int, Broker]:
    """The brokers as they will be when these commands are applied."""
    after = dict(brokers)
    for command in commands:
        match command:
            case FenceBroker(broker_id=broker_id):
                after[broker_id] = structs.replace(after[broker_id], fenced=True)
            case UnfenceBroker(broker_id=broker_id):
                after[broker_id] = in_service_again(after[broker_id])
            case BeginControlledShutdown(broker_id=broker_id):
                after[broker_id] = structs.replace(after[broker_id], in_controlled_shutdown=True)
    return after


def _has_handed_over(image: Image, broker_id: int) -> bool:
    """It leads nothing that somebody else in sync could lead; what only it holds it leads until it is gone."""
    able = {b.broker_id for b in image.brokers.values() if b.in_service}
    return not any(
        partition.leader == broker_id and not able.isdisjoint(partition.in_sync_replicas)
        for topic in image.topics.values()
        for partition in topic.partitions
    )


def _split(election: Election) -> Iterator[ChangePartitions]:
    """The changes in commands that each fit the log and are valid without the others."""
    for start in range(0, len(election.changes), MAX_CHANGES_PER_COMMAND):
        changes = tuple(election.changes[start : start + MAX_CHANGES_PER_COMMAND])
        yield ChangePartitions(cause="brokers came or went", changes=changes)
