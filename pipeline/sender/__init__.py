"""The HTTP client that delivers. The only importer of aiohttp's client."""
