"""The rows and columns of docs/kafka-compatibility.md: which clients are tried, and what each must be able to do."""

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ACKS = ("0", "1", "all")

CLIENTS = {
    "confluent-kafka": "Python, on librdkafka",
    "aiokafka": "Python, asyncio",
    "kafka-python": "Python",
    "kcat": "command line, on librdkafka",
    "kafkajs": "Node.js",
    "franz-go": "Go",
    "java": "Kafka's own client",
}
"""Name of the client -> what it is."""

FEATURES = {
    **{f"compression {codec}": f"produce, `compression.type={codec}`" for codec in CODECS},
    **{f"acks {acks}": f"produce, `acks={acks}`" for acks in ACKS},
    "idempotent": "produce, idempotent",
    "odd records": "headers, nulls, empty keys and values, times",
    "large": "values of 1 MB",
    "seek": "consume from any offset, by assignment",
    "times": "both ends, and offsets by time",
    "pause": "pause and resume a partition",
    "group": "a group: members join and leave",
    "cooperative": "a group: cooperative rebalancing",
    "death": "a group: a member is killed",
    "resume": "a group: commit, and resume there",
    "leader killed": "the leader is killed under an idempotent producer",
    "coordinator killed": "the coordinator is killed under a group",
    "topics": "admin: create, list, describe, delete topics",
    "partitions": "admin: more partitions",
    "configs": "admin: show and change a topic's settings",
    "groups": "admin: list, describe, delete groups",
    "delete records": "admin: delete records",
    "cluster": "admin: describe the cluster",
    "each other": "reads what all other clients and HTTP wrote, byte for byte",
}
"""Key of the feature, as in the tests' markers -> its row."""
