"""The fake cluster's brokers, where its partitions lie, and moves that take as many looks as one likes."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]


class FakeReplication:
    """Brokers by id, and of each partition what differs from "led by the first, all in sync"."""

    def __init__(self, cluster: Any) -> None:
        self.cluster_id = "5L6g3nShT-eMCtK--X86sw"
        self.brokers: dict[int, dict[str, Any]] = {}
        self.placement: dict[tuple[str, int], dict[str, Any]] = {}
        self.looks_per_move = 2
        """How often a move is seen in progress before it is done."""
        self.throttle: int | None = None
        self.throttles: list[int | None] = []
        self.refused: dict[tuple[str, int], str] = {}
        self.elections: list[dict[str, Any]] = []
        self.reasons: list[str] = []
        self.voters = {1: ("127.0.0.1", 9093)}
        self._cluster = cluster
        for broker_id in (1, 2, 3, 4):
            self.add_broker(broker_id)

    def add_broker(self, broker_id: int, **facts: Any) -> None:
        self.brokers[broker_id] = {
            "broker_id": broker_id,
            "rack": None,
            "broker_epoch": 7,
            "is_fenced": False,
            "is_draining": False,
            "listeners": {"PLAINTEXT": {"host": "127.0.0.1", "port": 9082 + 10 * broker_id}},
            "http": {"host": "127.0.0.1", "port": 8072 + 10 * broker_id},
            "peer": {"host": "127.0.0.1", "port": 9083 + 10 * broker_id},
            "lag_offsets_total": 0,
            "lag_offsets_max": 0,
        } | facts

    def place(self, topic: str, *replicas: tuple[int, ...], **facts: Any) -> None:
        """Where each of a topic's partitions lies, and whatever else is to be said of all of them."""
        self._cluster.add_topic(topic, len(replicas))
        for index, ids in enumerate(replicas):
            self.placement[topic, index] = {"replica_ids": list(ids), "in_sync_replica_ids": list(ids)} | facts

    def partition(self, topic: str, index: int) -> dict[str, Any]:
        placed = self.placement.get((topic, index), {})
        replicas = placed.get("replica_ids", [1])
        row = {
            "topic_name": topic,
            "partition_id": index,
            "replica_ids": replicas,
            "in_sync_replica_ids": replicas,
            "leader_id": next(iter(placed.get("in_sync_replica_ids", replicas)), None),
            "leader_epoch": 0,
            "eligible_leader_replica_ids": [],
            "adding_replica_ids": [],
            "removing_replica_ids": [],
            "min_in_sync_replicas": 1,
            "followers": [],
            "metadata": {"self": "http://..."},
            "replicas": {"related": "http://..."},
        } | {name: value for name, value in placed.items() if name != "looks_left"}
        expected = [r for r in row["replica_ids"] if r not in row["adding_replica_ids"]]
        row["is_under_replicated"] = not {*expected} <= {*row["in_sync_replica_ids"]}
        row["is_under_min_isr"] = len(row["in_sync_replica_ids"]) < row["min_in_sync_replicas"]
        return row

    def rows(self) -> list[dict[str, Any]]:
        topics = self._cluster.topics
        return [self.partition(topic, index) for topic in topics for index in range(len(topics[topic]))]

    # -- answers ----------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, document: Any) -> Answer | None:
        """None where the route is not one of these."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/v3/clusters":
            return 200, {"data": [{"cluster_id": self.cluster_id}]}
        path = url.path.removeprefix("/v3/clusters/-")
        match (method, path):
            case ("GET", "/brokers"):
                return 200, {"data": [self._counted(broker) for broker in self.brokers.values()]}
            case ("DELETE", _) if path.startswith("/brokers/"):
                found = self.brokers.pop(int(path.rpartition("/")[2]), None)
                return (404, {"error_code": 404, "message": "not registered"}) if found is None else (204, None)
            case ("GET", "/partitions"):
                return self._list(query)
            case ("POST", "/partitions:reassign"):
                return self._reassign(document)
            case ("POST", "/partitions:elect-leaders"):
                return self._elect(document)
            case ("GET", "/topics/-/partitions/-/reassignment"):
                return 200, {"data": self._look()}
            case (_, "/replication-throttle"):
                if method == "PUT":
                    self.throttle = document["bytes_per_s"]
                    self.throttles.append(self.throttle)
                return 200, {"bytes_per_s": self.throttle}
            case ("GET", "/quorum"):
                voters = [{"node_id": i, "host": host, "port": port} for i, (host, port) in self.voters.items()]
                return 200, {"leader_id": 1, "voters": voters}
            case ("GET", "/health"):
                return 200, self._health()
        return None

    def _counted(self, broker: dict[str, Any]) -> dict[str, Any]:
        rows, broker_id = self.rows(), broker["broker_id"]
        held = [row for row in rows if broker_id in row["replica_ids"]]
        return broker | {
            "leaders_count": sum(row["leader_id"] == broker_id for row in rows),
            "replicas_count": len(held),
            "out_of_sync_replicas_count": sum(broker_id not in row["in_sync_replica_ids"] for row in held),
        }

    def _list(self, query: dict[str, str]) -> Answer:
        if (topic := query.get("topic")) is not None and topic not in self._cluster.topics:
            return 404, {"error_code": 40401, "message": f"topic '{topic}' does not exist"}
        tests = {
            "under-replicated": lambda row: row["is_under_replicated"],
            "unavailable": lambda row: row["leader_id"] is None,
            "under-min-isr": lambda row: row["is_under_min_isr"],
            "reassigning": lambda row: row["adding_replica_ids"] or row["removing_replica_ids"],
        }
        wanted = tests.get(query.get("state", ""), lambda _: True)
        broker_id = int(query.get("broker_id", -1))
        rows = [
            row
            for row in self.rows()
            if wanted(row) and topic in (None, row["topic_name"]) and broker_id in (-1, *row["replica_ids"])
        ]
        return 200, {"data": rows[: int(query["limit"])]}

    def _reassign(self, document: Any) -> Answer:
        failures = []
        if "throttle_bytes_per_s" in document:
            self.throttle = document["throttle_bytes_per_s"]
            self.throttles.append(self.throttle)
        for wish in document["reassignments"]:
            key = (wish["topic_name"], wish["partition_id"])
            if key in self.refused:
                failures.append({"topic_name": key[0], "partition_id": key[1], "message": self.refused[key]})
            elif wish["replicas"] is None:
                placed = self.placement[key]
                placed |= {"replica_ids": placed["original"], "adding_replica_ids": [], "removing_replica_ids": []}
            else:
                self._begin(key, wish["replicas"])
        return 207, {"successes": [], "failures": json.loads(json.dumps(failures))}

    def _begin(self, key: tuple[str, int], target: list[int]) -> None:
        before = self.placement.setdefault(key, {"replica_ids": [1], "in_sync_replica_ids": [1]})
        original = before["replica_ids"]
        before |= {
            "original": original,
            "adding_replica_ids": [r for r in target if r not in original],
            "removing_replica_ids": [r for r in original if r not in target],
            "replica_ids": [*target, *(r for r in original if r not in target)],
            "looks_left": self.looks_per_move,
        }

    def _look(self) -> list[dict[str, Any]]:
        """Each look brings every move a step further."""
        moving = []
        for (topic, index), placed in self.placement.items():
            if not placed.get("adding_replica_ids") and not placed.get("removing_replica_ids"):
                continue
            placed["looks_left"] -= 1
            if placed["looks_left"] < 0:
                target = [r for r in placed["replica_ids"] if r not in placed["removing_replica_ids"]]
                placed |= {"replica_ids": target, "in_sync_replica_ids": target}
                placed |= {"adding_replica_ids": [], "removing_replica_ids": []}
            else:
                moving.append(self.partition(topic, index) | {"remaining_offsets": 100 * placed["looks_left"]})
        return moving

    def _elect(self, document: Any) -> Answer:
        self.elections.append(document)
        successes, failures = [], []
        for named in document.get("partitions") or ():
            key = (named["topic_name"], named["partition_id"])
            if key in self.refused:
                failures.append({**named, "message": self.refused[key]})
                continue
            placed, leader_id = self.placement[key], document.get("leader_id")
            changed = self.partition(*key)["leader_id"] != leader_id
            placed["leader_id"] = placed["replica_ids"][0] if leader_id is None else leader_id
            said = {} if changed else {"message": f"broker {leader_id} leads already"}
            successes.append({**named, "leader_id": placed["leader_id"], "changed": changed, **said})
        return 207, {"successes": successes, "failures": failures}

    def _health(self) -> dict[str, Any]:
        rows = self.rows()
        return {
            "reasons": self.reasons,
            "topics_count": len(self._cluster.topics),
            "partitions_count": len(rows),
            "leaderless_partitions_count": sum(row["leader_id"] is None for row in rows),
            "under_min_isr_partitions_count": sum(row["is_under_min_isr"] for row in rows),
            "under_replicated_partitions_count": sum(row["is_under_replicated"] for row in rows),
            "reassigning_partitions_count": sum(bool(row["adding_replica_ids"]) for row in rows),
        }
