"""The HTTP client that delivers webhooks: one POST with strict limits, and never to a blocked address.

The only importer of aiohttp's client. Uses `core` and `ops`.
Start reading in `client.py`, then `address_guard.py`.
"""
