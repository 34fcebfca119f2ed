"""The requests and answers of the HTTP API.

Uses pydantic and the records of `schemas`. Start reading in `schemas.http.endpoints`, then `schemas.http.attempts`.
"""
