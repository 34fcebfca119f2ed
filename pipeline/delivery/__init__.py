"""One attempt from end to end: admit, sign, POST, judge, record, schedule the retry.

Shared by the fan-out, the retry and the API. Uses `endpoints`, `broker`, `sender`, `ops` and `core`.
Begin with `delivery_service.py`, which shows the whole way; its values are in `delivery.py`.
"""
