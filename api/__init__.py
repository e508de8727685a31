"""Every door into a node."""
