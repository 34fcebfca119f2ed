"""What is on the wire: topics, events, endpoints, deliveries, attempts, and the HTTP API's models.

Uses pydantic and msgspec, and nothing of ours. Bytes become records in `schemas.codec`, and events in `schemas.event_codec`.
Start reading in `schemas.topics` (every topic in one place), then `schemas.event` and `schemas.delivery`.
"""
