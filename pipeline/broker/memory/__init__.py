"""A broker in memory: deterministic, on a clock of its own, for tests of everything above the seam.

It has what matters to consumers: partitions with a beginning and an end, groups with generations, sessions and cooperative
rebalances, commits that are fenced, topics with ids; and the faults that real clients and brokers were seen with. Begin with
`cluster.py` (what Kafka keeps), then `groups.py` (the coordinator), then `broker.py` (what one process sees of both).
"""
