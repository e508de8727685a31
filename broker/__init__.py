"""One process of the cluster: its configuration, its replicas, and everything that they wait for."""
