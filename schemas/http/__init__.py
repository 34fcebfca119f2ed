"""The requests and answers of the HTTP API.

Uses pydantic and the records beside it.
Begin with `schemas.http.endpoints`, then `schemas.http.attempts`.
"""
