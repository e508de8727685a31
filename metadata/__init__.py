"""What the cluster is, as a value: topics, partitions, brokers, and the rules by which they change.

Pure: no clock, no chance, no input or output. The active controller decides (`controller`, `decisions`), the quorum
orders the encoded proposals (`commands`, `codec`), every node applies them alike (`apply`) and gets a new `Image` and
a `Delta`.
"""
