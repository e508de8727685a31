"""The command line: HTTP through the standard library, and the processes of a local cluster. One file per noun."""
