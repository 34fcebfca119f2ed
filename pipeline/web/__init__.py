"""The HTTP server of a role: health and metrics for all, the API and the dashboard for the role `api`.

Uses everything below it in `pipeline`, and aiohttp's server.
Begin with `routes.py` (how a route is declared), then `api/` (one file a resource) or `dashboard/` (one file a group of pages).
"""
