"""The HTTP API, health and metrics (aiohttp.web)."""
