"""What happens to packets between nodes, as the kernel is told: nftables' words for what is heard, tc's for how fast.

Owns the translation of a weather into both; computes only. Packets are told apart by their sender's address and by the
wire they came over, so those of clients, who have a wire of their own, are never meant. This kernel need not know
netem: there is no delay by itself, only a rate and the queue before it, and that queue is what delays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PEERS = "peers"
"""The wire between nodes, as each node calls it."""
FULL_PACKET_BYTES = 1600
"""An Ethernet frame and some more: tc drops what is larger than its bucket."""
QUEUE_BYTES = 8192
LOSS_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Weather:
    """On every link between nodes, but for the directions in which nothing arrives at all."""

    cut: frozenset[tuple[int, int]] = frozenset()
    loss: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


def hearing(weather: Weather, node_id: int, addresses: Mapping[int, str]) -> str:
    """The nftables script, to be applied as one, after which this node hears what the weather lets it hear."""
    rules = []
    if silent := sorted(addresses[source] for source, target in weather.cut if target == node_id):
        rules.append(f'iifname "{PEERS}" ip saddr {{ {", ".join(silent)} }} drop')
    if weather.loss:
        lost = max(1, round(weather.loss * LOSS_STEPS))
        rules.append(f'iifname "{PEERS}" meta l4proto {{ tcp, udp }} numgen random mod {LOSS_STEPS} <= {lost - 1} drop')
    chain = ["type filter hook input priority 0; policy accept;", *rules]
    # first made, so that it can be deleted whether it was there or not
    lines = ["table ip faults", "delete table ip faults", "table ip faults {", " chain heard {", *chain, " }", "}", ""]
    return "\n".join(lines)


def speed(weather: Weather) -> list[str]:
    """What tc is told of the node's end of the wire: a bucket that lets so many bytes through, or none.

    Without a rate that is given it is the one at which a full queue adds `delay_s`; with one, the queue is as long as
    it must be for that.
    """
    if not weather.delay_s and not weather.bytes_per_s:
        return ["qdisc", "del", "dev", PEERS, "root"]
    rate = weather.bytes_per_s or QUEUE_BYTES / weather.delay_s
    queue_bytes = max(QUEUE_BYTES, round(rate * weather.delay_s))
    return [
        *("qdisc", "replace", "dev", PEERS, "root", "tbf"),
        *("rate", f"{round(8 * rate)}bit", "burst", str(FULL_PACKET_BYTES), "limit", str(queue_bytes)),
    ]


def connections(ports: Iterable[int], *, port_of: str, other: str) -> list[str]:
    """For ss: connections with `other` of which one end, `sport` (here) or `dport` (there), has one of the ports."""
    either = " or ".join(f"{port_of} = :{port}" for port in sorted(ports))
    return ["dst", other, "and", "(", *either.split(), ")"]
