"""An in-memory broker: deterministic, with its own clock, for tests of everything above `api.py`.

It has what matters to consumers: partitions with a beginning and an end, groups with generations, sessions and cooperative
rebalances, fenced commits, topics with ids; and faults that were observed with real clients and brokers. Uses `core` and `api.py` only. Start reading in
`cluster.py` (what Kafka stores), then `groups.py` (the coordinator) and `broker.py` (what one process sees of both).
"""
