"""The HTTP server of a role: health and metrics for every role, plus the API and the dashboard for the role `api`.

Uses everything below it in `pipeline`, and aiohttp's server.
Start reading in `routes.py` (how a route is declared), then `api/` (one file per resource) or `dashboard/` (one file per group of pages).
"""
