"""`kraft purge`: delete a stopped cluster; never a folder that is not one."""

from pathlib import Path

from cli import node_process
from cli.data_directory import delete_cluster, exclusive, require_cluster, shown
from cli.failure import ExitCode, Failure
from cli.invocation import command, current, data_directory_option
from cli.rendering import count, nodes_named, print_document, size


@command()
@data_directory_option
def purge(data_directory: str) -> None:
    """Delete the cluster on this machine with all its topics. Asks first; -y means yes."""
    invocation = current()
    cluster = require_cluster(Path(data_directory))
    folder = shown(cluster.directory)
    with exclusive(cluster.directory):
        running = [node.node_id for node in cluster.nodes if node_process.running_pid(node) is not None]
        if running:
            raise Failure(f"{nodes_named(running)} running: kraft down first", ExitCode.CONFLICT)
        used = sum(file.stat().st_size for file in cluster.directory.rglob("*") if file.is_file())
        invocation.confirm(f"Delete {folder} with {count(len(cluster.nodes), 'node')} and {size(used)} of data?")
        delete_cluster(cluster)
    document = {"deleted": str(cluster.directory), "cluster_id": cluster.cluster_id}
    print_document(invocation, document, [f"Deleted {folder}."])
