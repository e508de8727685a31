"""Consensus over opaque bytes: the metadata quorum, carried by pysyncobj and made safe.

Nothing outside this package knows that pysyncobj exists. `quorum.py` is the public face; `quorum_config.py`,
`errors.py` and `status.py` hold the values that cross it.
"""
