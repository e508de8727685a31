"""What an operator reads: one JSON object a line, which node said it, and a library's words among ours."""

import io
import json
import logging

import pytest
import structlog

from broker import event_log


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    event_log.configure(node_id=7, level="info", log_format="auto", stream=stream)
    yield stream
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def test_every_line_is_json_and_names_the_node(lines: io.StringIO) -> None:
    event_log.logger(topic="pay").info("leading", partition=3)
    event_log.logger().debug("too much detail")
    [line] = lines.getvalue().splitlines()
    event = json.loads(line)
    assert {"node_id": 7, "event": "leading", "topic": "pay", "partition": 3, "level": "info"}.items() <= event.items()
    assert event["timestamp"].endswith("Z")


def test_a_librarys_warning_becomes_a_line_like_ours(lines: io.StringIO) -> None:
    logging.getLogger("asyncio").error("accept failed", exc_info=OSError(24, "Too many open files"))
    event = json.loads(lines.getvalue())
    assert ("accept failed", "asyncio", 7) == (event["event"], event["logger"], event["node_id"])
    assert "Too many open files" in event["exception"]
