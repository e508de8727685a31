"""`kraft down`: ask every node to stop, and only kill what does not."""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path

import click

from cli import node_process
from cli.data_directory import LocalCluster, LocalNode, exclusive, nodes_of, require_cluster
from cli.failure import ExitCode, Failure
from cli.invocation import Invocation, command, current, data_directory_option
from cli.rendering import count, nodes_named, print_document

TIMEOUT_S = 30.0


@command()
@data_directory_option
@click.option("--node", "node_ids", type=int, multiple=True, metavar="ID", help="Stop this node only; may be repeated.")
@click.option("--remove", is_flag=True, help="Take the node out for good: its partitions move to the others first.")
@click.option("--throttle", metavar="RATE", help="With --remove: what each broker may fetch a second for it: 50MB.")
def down(data_directory: str, node_ids: tuple[int, ...], throttle: str | None, *, remove: bool) -> None:
    """Stop the nodes of the cluster on this machine; everything stays on disk.

    Every node is asked to finish its work (SIGTERM). One that has not ended after --timeout (30 s) is killed; nothing
    that it acknowledged is lost by that.

    --node 4 --remove takes a node that was added out of the cluster again: its partitions are moved to the other nodes
    while all goes on, it is stopped, unregistered, and its folder is deleted.
    """
    invocation = current()
    began_s = time.monotonic()
    cluster = require_cluster(Path(data_directory))
    if remove and not node_ids:
        raise click.UsageError("--remove takes out the nodes that you name: --node 4 --remove.")
    if remove:
        _remove(invocation, cluster, nodes_of(cluster, node_ids), throttle)
        return
    with exclusive(cluster.directory):
        timeout_s = invocation.timeout_s or TIMEOUT_S
        wanted = nodes_of(cluster, node_ids)
        stopped, killed = list[LocalNode](), list[LocalNode]()
        for is_voter in (False, True):  # who follows the quorum says goodbye to it while it is there
            nodes = [node for node in wanted if node.is_voter is is_voter]
            gone, forced = node_process.stop(nodes, timeout_s=timeout_s)
            stopped += gone
            killed += forced
    seconds = time.monotonic() - began_s
    if killed:
        invocation.notice(
            f"kraft: {nodes_named(_ids(killed), verb=False)} did not stop in time and had to be killed; "
            "what was acknowledged is on disk"
        )
    still = [node for node in wanted if node_process.running_pid(node) is not None]
    if still:
        raise Failure(f"{nodes_named(_ids(still))} still running", ExitCode.UNAVAILABLE)
    document = {"stopped": [node.node_id for node in stopped], "killed": [node.node_id for node in killed]}
    stopped_text = f"Stopped {count(len(stopped) + len(killed), 'node')} in {seconds:.1f} s."
    print_document(invocation, document, [stopped_text if stopped or killed else "No node was running."])


def _remove(
    invocation: Invocation, cluster: LocalCluster, nodes: Sequence[LocalNode], throttle_text: str | None
) -> None:
    leaving = importlib.import_module("cli.leaving")  # it speaks HTTP: only who removes a node pays for that
    partition_move = importlib.import_module("cli.partition_move")
    throttle = None if throttle_text is None else partition_move.throttle_option(throttle_text)
    leaving.remove_nodes(invocation, cluster, nodes, stop_timeout_s=TIMEOUT_S, throttle=throttle)
    named = nodes_named(_ids(nodes), verb=False)
    text = f"Removed {named}; {count(len(cluster.nodes) - len(nodes), 'node')} left."
    print_document(invocation, {"removed": _ids(nodes)}, [text])


def _ids(nodes: Sequence[LocalNode]) -> list[int]:
    return [node.node_id for node in nodes]
