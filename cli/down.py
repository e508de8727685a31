"""`kraft down`: ask every node to stop, and only kill what does not."""

import time
from pathlib import Path

import click

from cli import node_process
from cli.data_directory import LocalNode, exclusive, nodes_of, require_cluster
from cli.failure import ExitCode, Failure
from cli.invocation import command, current, data_directory_option
from cli.rendering import count, nodes_named, print_document

TIMEOUT_S = 30.0


@command()
@data_directory_option
@click.option("--node", "node_ids", type=int, multiple=True, metavar="ID", help="Stop this node only; may be repeated.")
def down(data_directory: str, node_ids: tuple[int, ...]) -> None:
    """Stop the nodes of the cluster on this machine; everything stays on disk.

    Every node is asked to finish its work (SIGTERM). One that has not ended after --timeout (30 s) is killed; nothing
    that it acknowledged is lost by that.
    """
    invocation = current()
    began_s = time.monotonic()
    cluster = require_cluster(Path(data_directory))
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


def _ids(nodes: list[LocalNode]) -> list[int]:
    return [node.node_id for node in nodes]
