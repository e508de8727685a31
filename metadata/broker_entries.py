"""Entries about brokers: registration, fencing, the way out (KIP-500, KIP-841, KIP-966).

Invariants: a broker's epoch is the log index of its registration, so it only grows; registration always fences (S10); a
broker is unfenced only when no partition counts it as in sync from before.
"""

from msgspec import structs

from metadata.answers import AnswerWindow, Done, RegistrationAnswer
from metadata.applied import Applied
from metadata.bounds import MAX_CONFIGS
from metadata.commands import (
    AlterBrokerConfigs,
    BeginControlledShutdown,
    FenceBroker,
    RegisterBroker,
    UnfenceBroker,
    UnregisterBroker,
)
from metadata.delta import NOTHING, Delta
from metadata.image import CLUSTER_WIDE, Broker, Image
from wire.errors import ErrorCode, RefusedError


def register(image: Image, index: int, command: RegisterBroker) -> Applied:
    existing = image.brokers.get(command.broker_id)
    if existing is not None and existing.incarnation_id == command.incarnation_id:
        return Applied(image, NOTHING, RegistrationAnswer(index=index, broker_epoch=existing.epoch))
    epoch = -1 if existing is None else existing.epoch
    if epoch != command.expected_broker_epoch:
        raise _stale_epoch(command.broker_id, given=command.expected_broker_epoch, current=epoch)
    if command.metadata_version_max < image.cluster_metadata_version:
        raise RefusedError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"broker {command.broker_id} supports metadata versions up to {command.metadata_version_max}, the cluster "
            f"is at {image.cluster_metadata_version}: run a newer version of this program on it",
        )
    broker = _registered(index, command, existing)
    after = structs.replace(
        image,
        brokers={**image.brokers, broker.broker_id: broker},
        answers={**image.answers, broker.broker_id: AnswerWindow(broker_epoch=index)},
    )
    return Applied(after, _delta(broker.broker_id), RegistrationAnswer(index=index, broker_epoch=index))


def _registered(index: int, command: RegisterBroker, existing: Broker | None) -> Broker:
    """The new registration; what an earlier one still has to be told about its disks is carried on until it is
    unfenced.
    """
    unhandled: tuple[Broker, ...] = () if existing is None else (existing,)
    lost = {d for b in unhandled for d in (*b.lost_directory_ids, *b.directory_ids)} - set(command.directory_ids)
    return Broker(
        broker_id=command.broker_id,
        epoch=index,
        incarnation_id=command.incarnation_id,
        directory_ids=command.directory_ids,
        http=command.http,
        peer=command.peer,
        listeners=command.listeners,
        replication_listener=command.replication_listener,
        rack=command.rack,
        fenced=True,
        in_controlled_shutdown=False,
        clean_shutdown=command.clean_shutdown and all(b.clean_shutdown for b in unhandled),
        lost_directory_ids=tuple(sorted(lost)),
        lost_everything=any(b.lost_everything or _disjoint(b, command) for b in unhandled),
        metadata_version_max=command.metadata_version_max,
    )


def _disjoint(before: Broker, command: RegisterBroker) -> bool:
    return bool(before.directory_ids) and set(before.directory_ids).isdisjoint(command.directory_ids)


def unregister(image: Image, index: int, command: UnregisterBroker) -> Applied:
    broker = registered(image, command.broker_id, command.broker_epoch)
    if not broker.fenced:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST, f"broker {broker.broker_id} is in service: stop it before it is unregistered"
        )
    holds = [t.name for t in image.topics.values() if any(broker.broker_id in p.replicas for p in t.partitions)]
    if holds:
        raise RefusedError(
            ErrorCode.INVALID_REQUEST,
            f"broker {broker.broker_id} holds replicas of {len(holds)} topics (such as {holds[0]!r}): "
            "drain it first (`kraft partition move`), or delete them",
        )
    after = structs.replace(
        image,
        brokers={b: kept for b, kept in image.brokers.items() if b != broker.broker_id},
        answers={b: kept for b, kept in image.answers.items() if b != broker.broker_id},
        broker_configs={b: kept for b, kept in image.broker_configs.items() if b != broker.broker_id},
    )
    had_configs = broker.broker_id in image.broker_configs
    delta = Delta(changed_brokers=frozenset((broker.broker_id,)), broker_configs_changed=had_configs)
    return Applied(after, delta, Done(index=index))


def alter_configs(image: Image, index: int, command: AlterBrokerConfigs) -> Applied:
    broker_id = command.broker_id
    if broker_id != CLUSTER_WIDE and broker_id not in image.brokers:
        raise RefusedError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker_id {broker_id} is not registered")
    before = image.broker_configs.get(broker_id, {})
    configs = {name: value for name, value in before.items() if name not in command.deleted_configs}
    configs.update(command.set_configs)
    if len(configs) > MAX_CONFIGS:
        raise RefusedError(ErrorCode.INVALID_CONFIG, f"{len(configs)} configs: at most {MAX_CONFIGS} can be set")
    if configs == before:
        return Applied(image, NOTHING, Done(index=index))
    others = {b: kept for b, kept in image.broker_configs.items() if b != broker_id}
    after = structs.replace(image, broker_configs={**others, broker_id: configs} if configs else others)
    return Applied(after, Delta(broker_configs_changed=True), Done(index=index))


def fence(image: Image, index: int, command: FenceBroker) -> Applied:
    broker = registered(image, command.broker_id, command.broker_epoch)
    return _replaced(image, index, broker, structs.replace(broker, fenced=True))


def unfence(image: Image, index: int, command: UnfenceBroker) -> Applied:
    broker = registered(image, command.broker_id, command.broker_epoch)
    if broker.fenced and (name := _still_in_sync(image, broker.broker_id)) is not None:
        raise RefusedError(
            ErrorCode.INELIGIBLE_REPLICA,
            f"broker {broker.broker_id} still counts as in sync for topic {name!r} from before it was fenced",
        )
    return _replaced(image, index, broker, in_service_again(broker))


def in_service_again(broker: Broker) -> Broker:
    """The broker unfenced: all that its registration said about lost data has been dealt with."""
    return structs.replace(broker, fenced=False, clean_shutdown=True, lost_directory_ids=(), lost_everything=False)


def begin_controlled_shutdown(image: Image, index: int, command: BeginControlledShutdown) -> Applied:
    broker = registered(image, command.broker_id, command.broker_epoch)
    return _replaced(image, index, broker, structs.replace(broker, in_controlled_shutdown=True))


def _still_in_sync(image: Image, broker_id: int) -> str | None:
    for topic in image.topics.values():
        for partition in topic.partitions:
            if broker_id in partition.in_sync_replicas:
                return topic.name
    return None


def _replaced(image: Image, index: int, before: Broker, after: Broker) -> Applied:
    if before == after:
        return Applied(image, NOTHING, Done(index=index))
    changed = structs.replace(image, brokers={**image.brokers, after.broker_id: after})
    return Applied(changed, _delta(after.broker_id), Done(index=index))


def registered(image: Image, broker_id: int, epoch: int) -> Broker:
    """The broker under that epoch; raises RefusedError(BROKER_ID_NOT_REGISTERED | STALE_BROKER_EPOCH)."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise RefusedError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker_id {broker_id} is not registered")
    if broker.epoch != epoch:
        raise _stale_epoch(broker_id, given=epoch, current=broker.epoch)
    return broker


def _stale_epoch(broker_id: int, *, given: int, current: int) -> RefusedError:
    return RefusedError(
        ErrorCode.STALE_BROKER_EPOCH,
        f"broker_epoch {given} of broker {broker_id} is not its current one ({current}): it has registered again since",
    )


def _delta(broker_id: int) -> Delta:
    return Delta(changed_brokers=frozenset((broker_id,)))
