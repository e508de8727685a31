"""Real clients against a cluster of three nodes that all tests of a worker share; what they could is written down."""

import base64
import itertools
import json
import os
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.compatibility_table import Outcome, Results, write_page
from tests.clients.conversation import RealClient
from tests.clients.features import CLIENTS
from tests.clients.installation import MissingError, command_of, environment_of
from tests.faults.harness import Cluster, Node

PAGE = "KRAFT_COMPATIBILITY_PAGE"
"""Names the file to which the table of this run is written."""
CLUSTER = pytest.StashKey[Cluster]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(key): a row of docs/kafka-compatibility.md; {names} are parameters")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes; a test that kills one has it back before the next test."""
    found = Cluster(tmp_path_factory.mktemp("clients") / "cluster", 3, ["offsets.topic.num.partitions=4"])
    request.config.stash[CLUSTER] = found
    yield found
    found.close()


class Clients:
    """The drivers' processes of this worker, one for each client; another member of a group gets one of its own."""

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self._bootstrap = cluster.kafka_servers
        self._logs = logs
        self._usual: dict[str, RealClient] = {}
        self._others: list[RealClient] = []
        self._numbers = itertools.count()

    def usual(self, name: str) -> RealClient:
        """The client's process; a new one where a test has ended the old one, or has left it in the middle."""
        found = self._usual.get(name)
        if found is None or not found.is_usable:
            if found is not None:
                found.kill()
            found = self._usual[name] = self._launched(name)
        return found

    def another(self, name: str) -> RealClient:
        """A process of its own, killed at the end of the test."""
        self._others.append(self._launched(name))
        return self._others[-1]

    def end_others(self) -> None:
        while self._others:
            self._others.pop().kill()

    def close(self) -> None:
        self.end_others()
        for client in self._usual.values():
            client.kill()

    def _launched(self, name: str) -> RealClient:
        try:
            command = command_of(name)
        except MissingError as error:
            pytest.skip(f"not here: {error}")
        log_file = self._logs / f"{name}-{next(self._numbers)}.log"
        client = RealClient(name, command, environment_of(name), log_file)
        client.start(self._bootstrap)
        return client


@pytest.fixture(scope="session")
def all_clients(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    found = Clients(cluster, tmp_path_factory.mktemp("drivers"))
    yield found
    found.close()


@pytest.fixture
def clients(all_clients: Clients) -> Iterator[Clients]:
    yield all_clients
    all_clients.end_others()


@pytest.fixture(params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    """The client that the test is about."""
    return str(request.param)


@pytest.fixture
def client(name: str, clients: Clients, record_property: Any) -> RealClient:
    found = clients.usual(name)
    record_property("version", found.version)
    return found


class Topics:
    """Topics of this test, made over HTTP."""

    def __init__(self, node: Node) -> None:
        self._url = f"http://127.0.0.1:{node.port}/v3/clusters/-/topics"

    def new(self, *, partitions: int = 1, **configs: str) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        wish = {
            "topic_name": name,
            "partitions_count": partitions,
            "replication_factor": 3,
            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()],
        }
        self.ask("", wish)
        return name

    def ask(self, path: str, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        asked = urllib.request.Request(self._url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    def read(self, topic: str, count: int) -> list[dict[str, Any]]:
        """Partition 0 over HTTP, as records of the conversation."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            answer = self.ask(f"/{topic}/partitions/0/records?offset={len(found)}&max_records={count}")
            assert answer["records"], (topic, answer)
            found += [_told(record) for record in answer["records"]]
        return found


@pytest.fixture
def topics(cluster: Cluster) -> Topics:
    return Topics(next(iter(cluster.nodes.values())))


def _told(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "p": record["partition_id"],
        "o": record["offset"],
        "t": record["timestamp"],
        "k": _content(record["key"]),
        "v": _content(record["value"]),
        "h": [[header["name"], header["value"]] for header in record["headers"]],
    }


def _content(data: dict[str, Any] | None) -> str | None:
    if data is None or data["data"] is None:
        return None
    text = str(data["data"])
    return base64.b64encode(text.encode()).decode() if data["type"] == "STRING" else text


# -- the account ----------------------------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Client and feature travel with the report, also from a worker of xdist."""
    marker = item.get_closest_marker("feature")
    if marker is not None:
        parameters = item.callspec.params  # type: ignore[attr-defined]  # a test of a client has parameters
        item.user_properties.append(("client", parameters["name"]))
        item.user_properties.append(("feature", marker.args[0].format(**parameters)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    told = dict(report.user_properties)
    if "feature" in told:
        results = RESULTS
        results.versions.setdefault(str(told["client"]), "")
        if told.get("version"):
            results.versions[str(told["client"])] = str(told["version"])
        if (outcome := _outcome(report)) is not None:
            results.outcomes[str(told["client"]), str(told["feature"])] = outcome


def _outcome(report: pytest.TestReport) -> Outcome | None:
    if report.failed:
        return Outcome("no", "")
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        return Outcome("cannot" if reason.startswith("cannot: ") else "not run", reason.partition(": ")[2])
    return Outcome("yes", "") if report.when == "call" else None


RESULTS = Results()
"""Of this process; the hook of a report is not told its session."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (page := os.environ.get(PAGE)) and not hasattr(session.config, "workerinput"):
        write_page(Path(page), RESULTS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failure is shown with the last words of every node."""
    report = yield
    if report.failed and (found := item.config.stash.get(CLUSTER, None)) is not None:
        report.sections.append(("nodes' logs", found.logs()))
    return report
