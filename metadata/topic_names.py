"""What a topic may be called, and which names belong to the cluster itself.

Rules are Kafka's (`org.apache.kafka.common.internals.Topic`): 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`, and no
two names that differ only in `.` and `_`, because metrics write both as `_`. No name can thus escape a folder.
"""

import re
from typing import Final

from metadata.image import Image
from wire.errors import ErrorCode, RefusedError

MAX_NAME_LENGTH: Final = 249
INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state"})
"""Written by the nodes themselves; clients may read and configure them, not create, grow or delete them."""
RESERVED_TOPICS: Final = frozenset({"__cluster_metadata"})
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def check_name(name: str) -> None:
    """Raise RefusedError(INVALID_TOPIC_EXCEPTION) for a name that no topic may have."""
    problem = _problem(name)
    if problem is not None:
        shown = name if len(name) <= MAX_NAME_LENGTH else name[:40] + "..."
        raise RefusedError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"topic_name {shown!r} {problem}")


def _problem(name: str) -> str | None:
    if not name:
        return "is empty: give it 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'"
    if name in (".", ".."):
        return "is not allowed: use more than dots"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters: at most {MAX_NAME_LENGTH} are allowed"
    if _LEGAL.fullmatch(name) is None:
        return "contains other characters than a-z, A-Z, 0-9, '.', '_' and '-'"
    if name in RESERVED_TOPICS:
        return "is reserved for the cluster's own metadata"
    return None


def check_not_internal(name: str, action: str) -> None:
    """Raise RefusedError(INVALID_TOPIC_EXCEPTION) where a client would `action` a topic of the cluster itself."""
    if name in INTERNAL_TOPICS or name in RESERVED_TOPICS:
        raise RefusedError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"topic_name {name!r} is an internal topic, which a client may not {action}",
        )


def check_name_is_free(image: Image, name: str) -> None:
    """Raise RefusedError where the name is taken (TOPIC_ALREADY_EXISTS) or collides with one
    (INVALID_TOPIC_EXCEPTION).
    """
    if name in image.topic_ids:
        raise RefusedError(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic_name {name!r} already exists")
    metric_name = name.replace(".", "_")
    other = image.dotted_names.get(metric_name)
    if other is None and metric_name in image.topic_ids:
        other = metric_name
    if other is not None:
        raise RefusedError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"topic_name {name!r} collides with {other!r}: names that differ only in '.' and '_' look the same in "
            "metrics; choose another name",
        )
