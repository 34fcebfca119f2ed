"""What is on the wire: topics, events, endpoints, deliveries, attempts, and the HTTP API's models.

Uses pydantic and msgspec, and no other package of ours. `schemas.codec` decodes records, and `schemas.event_codec` decodes
events. Start reading in `schemas.topics` (every topic in one place), then `schemas.event` and `schemas.delivery`.
"""
