"""One attempt from end to end: admit, sign, POST, judge, record, schedule the retry.

Shared by the fan-out, the retry and the API. Uses `endpoints`, `broker`, `sender`, `ops` and `core`.
Start reading in `delivery_service.py`, which shows all steps. Its values are in `delivery.py`.
"""
