"""The HTTP client that delivers: one POST, whatever the endpoint does, and never to an address that is blocked.

The only importer of aiohttp's client. Uses `core` and `ops`.
Start reading in `client.py`, then `address_guard.py`.
"""
