"""The HTTP API, one file per resource.

`route_table.py` lists every route. Handlers do the work of one request and use `pipeline.web` for the rest.
Start reading in `endpoints.py`.
"""
