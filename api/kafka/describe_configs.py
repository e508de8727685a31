"""DescribeConfigs 1-4: settings of topics and brokers, where each comes from, what else it could be (KIP-226).

1: sources and synonyms. 2: nothing new. 3: types, documentation (KIP-569). 4: flexible.
A topic's are the same wherever it is asked. A broker's own configuration is known to that broker only, so clients ask
it there; the empty name stands for what was set for all brokers. Loggers: one, `root`. Groups and client metrics have
no settings of their own here: an empty list.
"""

from collections.abc import Iterable

from api.kafka.admin_calls import AdminCall, failure_of, topic_named
from api.kafka.config_answers import of_broker, of_logger, of_topic
from api.kafka.config_resources import own_broker_id
from api.kafka.context import Caller
from broker.broker_configs import describe_broker, describe_cluster_wide
from metadata.broker_settings import dynamic_topic_defaults
from metadata.image import CLUSTER_WIDE
from metadata.topic_configs import describe
from wire.errors import ErrorCode, RefusedError
from wire.messages import config_resources
from wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)
from wire.messages.headers import RequestHeader

Results = Iterable[DescribeConfigsResourceResult]


def handle(caller: Caller, _: RequestHeader, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    call = AdminCall(caller)
    return DescribeConfigsResponse(results=[_described(call, request, asked) for asked in request.resources])


def _described(
    call: AdminCall, request: DescribeConfigsRequest, asked: DescribeConfigsResource
) -> DescribeConfigsResult:
    kind, name = asked.resource_type, asked.resource_name
    try:
        found = _settings(call, request, kind, name)
    except RefusedError as refused:
        failure = failure_of(refused)
        return DescribeConfigsResult(failure.code, failure.message, kind, name)
    keys = asked.configuration_keys
    return DescribeConfigsResult(0, None, kind, name, [one for one in found if not keys or one.name in keys])


def _settings(call: AdminCall, request: DescribeConfigsRequest, kind: int, name: str) -> Results:
    with_synonyms, with_documentation = request.include_synonyms, request.include_documentation
    node = call.node
    match kind:
        case config_resources.TOPIC:
            topic = topic_named(call, name)
            dynamic = dynamic_topic_defaults(node.image.broker_configs)
            return [
                of_topic(entry, with_synonyms=with_synonyms, with_documentation=with_documentation)
                for entry in describe(topic.configs, node.config.topic_defaults, dynamic)
            ]
        case config_resources.BROKER:
            configs = node.image.broker_configs
            is_all = own_broker_id(call, name) == CLUSTER_WIDE
            entries = describe_cluster_wide(configs) if is_all else describe_broker(node.config, configs)
            return [
                of_broker(entry, with_synonyms=with_synonyms, with_documentation=with_documentation)
                for entry in entries
            ]
        case config_resources.BROKER_LOGGER:
            if own_broker_id(call, name) == CLUSTER_WIDE:
                raise RefusedError(ErrorCode.INVALID_REQUEST, "loggers are those of one broker: name it")
            return [of_logger(node.config.log_level, with_synonyms=with_synonyms)]
        case config_resources.CLIENT_METRICS | config_resources.GROUP:
            return []
    raise RefusedError(
        ErrorCode.INVALID_REQUEST,
        f"resource_type {kind} has no settings: topics (2), brokers (4) and their loggers (8) have",
    )
