"""What the documentation says is what the code does: keys, defaults, routes, commands, links; and its pages are short.

A key, route, command or option that only one of the two knows fails here, with what to add or take out.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest

from broker.config import load_config
from broker.config_keys import KEYS
from broker.config_values import format_endpoint
from broker.node_config import NodeConfig
from metadata.topic_configs import TOPIC_CONFIGS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGE_LINES_MAX = 200
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
HTTP = (ROOT / "docs" / "http.md").read_text()
GROUPS = (ROOT / "docs" / "groups.md").read_text()
KAFKA = (ROOT / "docs" / "kafka.md").read_text()
ARCHITECTURE = ROOT / "ARCHITECTURE.md"

# What a person reads instead of a NodeConfig's value.
IN_WORDS = {
    "node.directory": "kraft-data/node-1",
    "log.dirs": "data` in `node.directory",
    "log.dir": "data` in `node.directory",
    "metadata.log.dir": "metadata` in `node.directory",
    "advertised.http.listeners": "that of `http.listeners",
    "advertised.peer.listeners": "that of `peer.listeners",
    "advertised.listeners": "those of `listeners",
    "listener.security.protocol.map": "each protocol is its own name",
    "inter.broker.listener.name": "PLAINTEXT`, else the first",
    "connections.max.idle.ms": "75000` for HTTP, `600000` for Kafka",
    "metadata.log.max.entries.between.snapshots": "5,000",
    "offsets.topic.replication.factor": "that of `default.replication.factor",
}


# -- configuration.md ------------------------------------------------------------------------------------------------


def rows(text, heading):
    """The cells of every table row below a `## heading`, without its head."""
    section = re.split(rf"^## {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def key_rows():
    headings = re.findall(r"^## (.*)$", CONFIGURATION, flags=re.MULTILINE)
    return {
        row[0].strip("`"): row
        for heading in headings
        if heading != "Topic settings"
        for row in rows(CONFIGURATION, heading)
    }


def documented_default(key, row):
    if KEYS[key].topic_key or len(row) == 4:
        return row[2].strip("`")
    return row[1].strip("`")


def actual_default(key):
    if key in IN_WORDS:
        return IN_WORDS[key]
    if topic_key := KEYS[key].topic_key:
        return TOPIC_CONFIGS[topic_key].default
    values = {
        "broker.id": "1", "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "peer.listeners": "127.0.0.1:9093",
        "http.listeners": "http://127.0.0.1:8082",
        "listeners": "PLAINTEXT://127.0.0.1:9092",
    }  # fmt: skip
    config, _ = load_config(None, {}, [])
    assert values["peer.listeners"] == format_endpoint(*config.peer_listener)
    assert values["http.listeners"] == ",".join(map(str, config.http_listeners))
    assert values["listeners"] == ",".join(map(str, config.kafka_listeners))
    assert values["process.roles"] == ",".join(sorted(config.roles))
    assert {1: ("127.0.0.1", 9093)} == config.voters
    if key in values:
        return values[key]
    fields = {field.name: field.default for field in dataclasses.fields(NodeConfig)}
    default = fields.get(KEYS[key].field)
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default in (None, ()) else str(default)


def test_every_key_of_a_node_is_in_the_page_and_no_other():
    assert set(KEYS) == set(key_rows())


@pytest.mark.parametrize("key", KEYS)
def test_the_page_gives_the_default_that_a_node_has(key):
    assert actual_default(key) == documented_default(key, key_rows()[key])


def test_the_page_says_for_which_topic_setting_a_key_is_the_default():
    expected = {name: key.topic_key for name, key in KEYS.items() if key.topic_key}
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows(CONFIGURATION, "Defaults of topic settings")}
    assert expected == documented


def test_every_topic_setting_is_in_the_page_with_its_type_and_default():
    type_names = {"STRING": "choice"}
    expected = {
        name: (type_names.get(config.type.value, config.type.value.lower()), config.default)
        for name, config in TOPIC_CONFIGS.items()
    }
    documented = {row[0].strip("`"): (row[1], row[2].strip("`")) for row in rows(CONFIGURATION, "Topic settings")}
    assert expected == documented


def test_the_choices_of_topic_settings_are_all_named():
    section = CONFIGURATION.split("## Topic settings")[1]
    for name, config in TOPIC_CONFIGS.items():
        row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` "))
        assert [] == [choice for choice in config.choices if f"`{choice}`" not in row], name


# -- http.md ---------------------------------------------------------------------------------------------------------


def served_routes():
    from api.http import app  # noqa: PLC0415 - aiohttp takes a good part of a second

    routes = [*app._hot_routes(), *app._v3_routes(), *app._replication_routes(), *app._group_routes()]
    routes += [*app._instance_routes(), *app._v2_routes()]
    return {f"{route.method} {route.path}" for route in routes}


def documented_routes():
    cluster = "/v3/clusters/{cluster_id}"
    bases = {
        "C": cluster,
        "T": cluster + "/topics/{topic}",
        "P": cluster + "/topics/{topic}/partitions/{partition}",
        "G": cluster + "/consumer-groups/{group}",
        "I": "/consumers/{group}/instances/{instance}",
    }
    table = "".join(page.split("\n## Routes\n")[1] for page in (HTTP, GROUPS))
    found = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) ([CTPGI]?)(/[^`]*)?`", table)
    return {f"{method} {bases.get(base, '')}{path}" for method, base, path in found}


def test_the_page_lists_every_route_and_no_other():
    assert served_routes() == documented_routes()


def test_every_address_in_an_example_is_a_route():
    patterns = [
        (method, re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path)) + r"$"))
        for method, path in (route.split(" ", 1) for route in served_routes())
    ]
    for page in (ROOT / "README.md", *PAGES):
        for host, path in re.findall(r"(\$C|127\.0\.0\.1:\d+|localhost:\d+)(/[^\s\"'?`]+)", page.read_text()):
            full = "/v3/clusters/-" + path if host == "$C" else path
            assert any(pattern.match(full) for _, pattern in patterns), f"{page.name}: {path} is no route"


def test_every_error_code_is_in_the_table():
    from api.http import errors, group_errors  # noqa: PLC0415 - as above

    codes = {
        value for name, value in {**vars(errors), **vars(group_errors)}.items()
        if name.isupper() and isinstance(value, int) and 400 <= value and not name.endswith(("_S", "_MAX"))
    }  # fmt: skip
    table = "".join(page.split("\n## Errors\n")[1].split("\n## ")[0] for page in (HTTP, GROUPS))
    named = {int(number) for number in re.findall(r"\b(\d{3}|\d{5})\b", table)}
    assert set() == {code for code in codes if code not in named and code != errors.PAYLOAD}


# -- kafka.md --------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_kafka_api_in_its_versions_and_no_other():
    from api.kafka.registry import VERSIONS  # noqa: PLC0415 - as above
    from wire.messages import API  # noqa: PLC0415 - as above

    def shown(versions):
        return str(versions[0]) if len(versions) == 1 else f"{versions[0]}-{versions[-1]}"

    served = [[str(key.value), API[key].name, shown(VERSIONS[key])] for key in sorted(VERSIONS)]
    assert served == [row[:3] for row in rows(KAFKA, "What is served")]


def test_the_bounds_in_the_page_are_those_of_the_kafka_door():
    from api.kafka.settings import MIB, KafkaSettings  # noqa: PLC0415 - as above

    door = KafkaSettings()
    wanted = [
        f"a request of {door.request_bytes_max // MIB} MiB", f"an answer of {door.fetch_bytes_max // MIB} MiB",
        f"a long poll of {door.fetch_wait_ms_max // 1000} s",
        f"a wait for acks of {door.produce_timeout_ms_max // 1000} s",
        f"{door.pipelined_requests_max} requests under way",
    ]  # fmt: skip
    page = " ".join(KAFKA.lower().split())
    assert [] == [text for text in wanted if text.lower() not in page]


# -- commands --------------------------------------------------------------------------------------------------------


def command_lines():
    """Every `kraft ...` in a code span or block of README and docs: (page, words)."""
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [span.replace("\n", " ") for span in re.findall(r"`([^`]*)`", prose)]
        for line in lines:
            for piece in re.split(r"&&|\|(?!\w)|;|ExecStart=\S*/(?=kraft)", line.split("  #")[0]):
                words = piece.strip().removeprefix("$ ").strip()
                words = re.sub(r"^(?:\w+=\S+ )+", "", words)
                if re.match(r"kraft [a-z-]+(?!\S)", words):  # `kraft node: ...` is what a node says
                    yield page.name, words


def resolve(words):
    """The click command that the words name, and its remaining words."""
    from cli.main import root  # noqa: PLC0415 - the click tree is only wanted here

    context = click.Context(root, info_name="kraft")
    command, rest = root, words
    while isinstance(command, click.Group):
        rest = drop_group_options(command, rest)
        if not rest or rest[0].startswith("-"):
            return command, rest
        found = command.get_command(context, rest[0])
        if found is None:
            return None, rest
        command, rest = found, rest[1:]
    return command, rest


def drop_group_options(group, words):
    """Options may stand before the command: `kraft -b HOST topic list`."""
    while words and words[0].startswith("-"):
        option = next((p for p in group.params if words[0] in p.opts), None)
        if option is None:
            return words
        words = words[1 if getattr(option, "is_flag", False) else 2 :]
    return words


def without_shell(text):
    """`kraft a < file > out 2>&1` is `kraft a`."""
    return re.split(r"\s(?:<|>|2>)", text)[0]


def test_every_command_and_option_that_is_named_exists():
    problems = []
    count = 0
    for page, text in command_lines():
        words = shlex.split(without_shell(text))[1:]
        words = [word for word in words if word not in ("...", "…")]
        if words and "|" in words[0]:
            words = [words[0].split("|")[0], *words[1:]]
        count += 1
        command, rest = resolve(words)
        if command is None:
            problems.append(f"{page}: `{text}`: there is no command {rest[0]}")
            continue
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            option = word.split("=")[0]
            if re.match(r"--?[A-Za-z]", option) and option not in known | {"--help", "-h"}:
                problems.append(f"{page}: `{text}`: {command.name} has no option {option}")
    assert [] == problems
    assert count > 20, "the commands in the pages are not found any more"


# -- the pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_short_enough_to_be_read(page):
    lines = page.read_text().count("\n")
    assert lines <= PAGE_LINES_MAX, f"{page.name} has {lines} lines"


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


def test_each_invariant_is_named_by_the_files_that_uphold_it_and_by_the_tests_that_prove_it():
    table = rows(ARCHITECTURE.read_text(), "What holds, and where")
    assert [f"S{number}" for number in range(1, 21)] == [row[0] for row in table]
    silent = [
        f"{path} does not name {row[0]}"
        for row in table
        for path in re.findall(r"`([\w/]+\.py)`", " ".join(row[2:]))
        if not re.search(rf"(?i)(?<![a-z0-9]){row[0]}(?![0-9])", (ROOT / path).read_text())
    ]
    assert [] == silent


def test_the_tests_that_show_a_promise_exist():
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", "\n".join(page.read_text() for page in PAGES)))
    assert named
    assert set() == {name for name in named if not (ROOT / name).exists()}


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [] == [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index]


def test_the_limits_in_the_page_are_those_of_the_door():
    from api.http.settings import MIB, HttpSettings  # noqa: PLC0415 - aiohttp takes a good part of a second

    config, _ = load_config(None, {}, [])
    door = HttpSettings()
    limits = HTTP.split("\n## Limits\n")[1].split("\n## ")[0]
    wanted = [
        f"{door.batch_entries_max:,} entries", f"{door.batch_records_max:,} records",
        f"{config.socket_request_max_bytes // MIB} MiB a body", f"{door.poll_timeout_ms_max // 1000} s a long poll",
        f"{config.http_header_timeout_ms // 1000} s for a request",
        f"{config.http_body_timeout_ms // 1000} s for a body",
        f"{door.stream_idle_s:.0f} s of silence",
    ]  # fmt: skip
    assert [] == [text for text in wanted if text not in " ".join(limits.split())]
