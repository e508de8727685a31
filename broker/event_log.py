"""What a node tells its operator: structlog events, JSON lines unless a person watches the terminal.

Owns the set-up of structlog and of the standard library's `logging` (aiohttp, asyncio), whose records become the same
lines. Every event carries `node_id`; whoever logs about a topic or partition adds `topic`, `partition`.
"""

import logging
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(*, node_id: int, level: str, log_format: str, stream: TextIO) -> None:
    """Send every event to `stream`; `log_format` is auto (JSON unless a terminal), json or console."""
    as_text = log_format == "console" or (log_format == "auto" and stream.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if as_text else structlog.processors.JSONRenderer()
    )

    def name_the_node(_: Any, __: str, event: "EventDict") -> "EventDict":
        return {"node_id": node_id, **event}

    processors: list[Processor] = [
        name_the_node,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if as_text else [structlog.processors.format_exc_info]),
        renderer,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ToEvents(structlog.get_logger())]
    root.setLevel(max(logging.WARNING, LEVELS[level]))


def logger(**context: Any) -> "FilteringBoundLogger":
    """A logger whose events all carry `context`."""
    bound: FilteringBoundLogger = structlog.get_logger(**context)
    return bound


class _ToEvents(logging.Handler):
    """A library's log record becomes an event like ours."""

    def __init__(self, events: "FilteringBoundLogger") -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        self._events.log(max(record.levelno, logging.DEBUG), record.getMessage(), logger=record.name, exc_info=exc_info)
