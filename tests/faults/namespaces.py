"""The network between the nodes of one cluster, made of packets: each node in a network namespace of its own.

Owns the namespaces and two wires to each: `peers` to a bridge that all nodes share, on which every fault is, and
`clients` to whoever runs this, on which nothing ever happens. A node has one address, reached over both. Faults are the
kernel's own: nftables drops packets, tc lets them through slowly, ss ends connections. What is lost is drawn by the
kernel, not from a seed. A namespace is there as long as the process that holds it: it ends with its input, so with this
process, however that ends.

Refuses (`NoNamespacesError`, which says why) to be laid where something else is connected: only in a network namespace
that holds nothing but a loopback, as `scripts/faults` makes one, does it make bridges and routes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.faults import packet_rules
from tests.faults.harness import Cluster, Node, wait_until
from tests.faults.network import Direction, put_settings, setting
from tests.faults.own_namespace import connected
from tests.faults.packet_rules import PEERS, Weather

TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "tc": "iproute2", "ss": "iproute2",
         "nft": "nftables"}  # fmt: skip
"""By the Debian package that has each."""
SUBNET = "10.213.77"
HARNESS = f"{SUBNET}.254"
"""Where clients are, seen from a node."""
BRIDGE = "nodes"
CLIENTS = "clients"
NODES_MAX = 200
LISTENERS = ("peer.listeners", "listeners", "http.listeners")
NEWCOMERS_PORT = 8082
ANSWERED_S = 30.0


class NoNamespacesError(Exception):
    """They cannot be had here; the message says why."""


def tool(name: str) -> str:
    """Its path; those of administrators are not in everybody's PATH."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise NoNamespacesError(f"there is no {name} here (Debian's package {TOOLS[name]})")
    return found


def tell(*command: str, told: str | None = None) -> str:
    """Run it; what it refuses is why there are no namespaces."""
    answer = subprocess.run(
        command, input=told, stdin=None if told else subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=ANSWERED_S,
    )  # fmt: skip
    if answer.returncode != 0:
        said = (answer.stderr.strip() or "said nothing").splitlines()[0]
        raise NoNamespacesError(f"`{' '.join(command)}` failed: {said}")
    return answer.stdout


class Place:
    """One node's network namespace, with its wires."""

    def __init__(self, node_id: int) -> None:
        assert 0 < node_id <= NODES_MAX
        self.node_id = node_id
        self.address = f"{SUBNET}.{node_id}"
        self._holder = subprocess.Popen(
            [tool("unshare"), "--net", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for the test, which ends this by closing its input
        )
        self.within = (tool("nsenter"), f"--net={self.file}", "--")
        self._imposed = Weather()
        try:
            self._enter()
            self._wire()
        except BaseException:
            self.close()
            raise

    @property
    def file(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"

    def tell(self, name: str, *arguments: str, told: str | None = None) -> str:
        """One of the tools, in there."""
        return tell(*self.within, tool(name), *arguments, told=told)

    def impose(self, weather: Weather, addresses: dict[int, str]) -> None:
        """Both only where they change: every command takes its time, and nodes are hit one after the other."""
        heard = packet_rules.hearing(weather, self.node_id, addresses)
        if heard != packet_rules.hearing(self._imposed, self.node_id, addresses):
            self.tell("nft", "-f", "-", told=heard)
        spoken = packet_rules.speed(weather)
        if spoken != packet_rules.speed(self._imposed):
            self.tell("tc", *spoken)
        self._imposed = weather

    def end_connections(self, other: "Place", ports: Iterable[int], *, port_of: str) -> None:
        self.tell("ss", "-K", "-t", "-n", "-H", *packet_rules.connections(ports, port_of=port_of, other=other.address))

    def close(self) -> None:
        for wire in (f"p{self.node_id}", f"c{self.node_id}"):
            with contextlib.suppress(NoNamespacesError):  # where it was not made
                tell(tool("ip"), "link", "del", wire)
        with contextlib.suppress(OSError):
            self._holder.communicate(timeout=ANSWERED_S)

    def _enter(self) -> None:
        """Return when the holder holds it, which it cannot do before it is there."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            self._holder.stdin.write("held\n")
            self._holder.stdin.flush()
        if not self._holder.stdout.readline():
            said = (self._holder.stderr.read().strip() or "unshare said nothing").splitlines()[0]
            raise NoNamespacesError(f"this kernel makes no network namespace for us ({said})")

    def _wire(self) -> None:
        number, holder = self.node_id, self._holder.pid
        outside = (
            f"link add p{number} type veth peer name {PEERS} netns {holder}",
            f"link set p{number} gso_max_segs 1 master {BRIDGE} up",
            f"link add c{number} type veth peer name {CLIENTS} netns {holder}",
            f"addr add {HARNESS}/32 dev c{number}",
            f"link set c{number} up",
        )
        inside = (
            "link set lo up",
            f"addr add {self.address}/24 dev {PEERS}",
            f"link set {PEERS} gso_max_segs 1 up",  # a packet on this wire is one packet, as loss and tc count them
            f"link set {CLIENTS} up",
            f"route add {HARNESS}/32 dev {CLIENTS}",
        )
        tell(tool("ip"), "-batch", "-", told="\n".join((*outside, "")))
        self.tell("ip", "-batch", "-", told="\n".join((*inside, "")))
        tell(tool("ip"), "route", "add", f"{self.address}/32", "dev", f"c{number}", "src", HARNESS)


class Namespaces:
    """The face of `Network`; one at a time in the network namespace of whoever makes it."""

    def __init__(self, cluster: Cluster, _: int = 0) -> None:
        assert not any(node.is_running() for node in cluster.nodes.values()), "addresses are read at a start"
        refuse_a_shared_network()
        self._weather = Weather()
        self._places: dict[int, Place] = {}
        self._ports: dict[int, set[int]] = {}
        tell(tool("ip"), "link", "add", BRIDGE, "type", "bridge")
        try:
            tell(tool("ip"), "link", "set", BRIDGE, "up")
            for node_id, node in cluster.nodes.items():
                place = self._places[node_id] = Place(node_id)
                node.host, node.within = place.address, place.within
                self._ports[node_id] = {int(setting(node, key).rsplit(":", 1)[1]) for key in LISTENERS}
            for node in cluster.nodes.values():
                put_settings(node, self._addresses_of(node, cluster))
        except BaseException:
            self.close()
            raise

    def know(self, nodes: Iterable[Node]) -> None:
        """Nothing is to be known: who a node is, its address says."""

    def cut(self, directions: Iterable[Direction]) -> None:
        self._impose(replace(self._weather, cut=frozenset(directions)))

    def lose(self, share: float) -> None:
        self._impose(replace(self._weather, loss=share))

    def slow(self, delay_s: float, bytes_per_s: float = 0.0) -> None:
        """By a rate for everything that a node sends to others, and the queue before it: `packet_rules.speed`."""
        self._impose(replace(self._weather, delay_s=delay_s, bytes_per_s=bytes_per_s))

    def reset(self, directions: Iterable[Direction]) -> None:
        """At both ends, so that it does not matter whether a reset still comes through."""
        for source, target in sorted(directions):
            opener, accepter, ports = self._places[source], self._places[target], self._ports[target]
            opener.end_connections(accepter, ports, port_of="dport")
            accepter.end_connections(opener, ports, port_of="sport")

    def heal(self) -> None:
        self._impose(Weather())

    @contextlib.contextmanager
    def newcomer(self, cluster: Cluster) -> Iterator[int]:
        """`kraft node --join`, as on a machine of its own: `kraft up --add` knows this machine's loopback only."""
        node_id = 1 + max(cluster.nodes)
        place = self._places[node_id] = Place(node_id)
        node = Node(node_id, cluster.directory / f"node-{node_id}", NEWCOMERS_PORT, 0)
        node.host, node.within = place.address, place.within
        node.directory.mkdir()
        place.impose(self._weather, self._addresses)
        try:
            node.join(cluster.servers, [f"node.id={node_id}", "insecure.listeners=true", *cluster.settings])
            node.wait_ready()
            try:
                yield node_id
            finally:
                cluster.kraft("broker", "drain", str(node_id))
                node.signal(signal.SIGTERM)
                wait_until(lambda: not node.is_running(), f"node {node_id} stops when asked", timeout_s=60)
                cluster.kraft("broker", "remove", str(node_id))
            shutil.rmtree(node.directory)
        finally:
            node.kill()
            self._places.pop(node_id).close()

    def place(self, node_id: int) -> Place:
        return self._places[node_id]

    def close(self) -> None:
        for place in self._places.values():
            place.close()
        with contextlib.suppress(NoNamespacesError):
            tell(tool("ip"), "link", "del", BRIDGE)

    @property
    def _addresses(self) -> dict[int, str]:
        return {node_id: place.address for node_id, place in self._places.items()}

    def _addresses_of(self, node: Node, cluster: Cluster) -> dict[str, str]:
        """What a node's file says of listeners: where it listens is where others and clients find it."""
        ports = {key: int(setting(node, key).rsplit(":", 1)[1]) for key in LISTENERS}
        peers = {other.node_id: setting(other, "peer.listeners").rsplit(":", 1)[1] for other in cluster.nodes.values()}
        voters = sorted(int(voter.partition("@")[0]) for voter in setting(node, "controller.quorum.voters").split(","))
        return {
            "controller.quorum.voters": ",".join(f"{v}@{self._places[v].address}:{peers[v]}" for v in voters),
            "peer.listeners": f"{node.host}:{ports['peer.listeners']}",
            "listeners": f"PLAINTEXT://{node.host}:{ports['listeners']}",
            "http.listeners": f"http://{node.host}:{ports['http.listeners']}",
            "insecure.listeners": "true",  # beyond the loopback of a node's namespace, but in nobody else's reach
        }

    def _impose(self, weather: Weather) -> None:
        for place in self._places.values():
            place.impose(weather, self._addresses)
        self._weather = weather


# --- whether it can be had -------------------------------------------------------------------------------------------


def refuse_a_shared_network() -> None:
    if others := connected():
        raise NoNamespacesError(
            f"this network is shared with others ({', '.join(others)} is up); scripts/faults makes its own where the "
            "kernel lets it"
        )


def why_not() -> str | None:
    """Why there can be no namespaces here, found out by making one and trying each fault on it."""
    try:
        for name in TOOLS:
            tool(name)
        refuse_a_shared_network()
        _try_each_fault()
    except NoNamespacesError as error:
        return str(error)
    return None


def _try_each_fault() -> None:
    tell(tool("ip"), "link", "add", BRIDGE, "type", "bridge")
    try:
        with contextlib.closing(Place(1)) as place:
            addresses = {1: place.address, 2: f"{SUBNET}.2"}
            place.impose(Weather(frozenset({(2, 1)}), loss=0.5, delay_s=0.1), addresses)
            place.impose(Weather(), addresses)
            _try_to_end_a_connection()
    finally:
        tell(tool("ip"), "link", "del", BRIDGE)


def _try_to_end_a_connection() -> None:
    """ss says nothing where the kernel cannot do it (it was built without INET_DIAG_DESTROY)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection, listener.accept()[0]:
            ended = packet_rules.connections([port], port_of="dport", other="127.0.0.1")
            tell(tool("ss"), "-K", "-t", "-n", "-H", *ended)
            try:
                with contextlib.suppress(ConnectionError):
                    connection.recv(1)
            except TimeoutError:
                raise NoNamespacesError("`ss -K` ends no connection with this kernel") from None
