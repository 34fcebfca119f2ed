"""What is on the wire: topics, events, endpoints, deliveries, attempts and the HTTP API. Imports pydantic (and msgspec) only."""
