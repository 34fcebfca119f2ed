"""Every metric of the product, defined and described here only. Labels are bounded: never a URL, an event's id or free text.

All names begin with ``oms_webhooks_``; durations are in seconds, sizes in bytes (Prometheus's conventions).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from pipeline.ops.collectors import LoopCounter, LoopHistogram, TopEndpoints

# From 5 ms to 30 s around the delivery objective: 99.9% of events are first attempted within 5 s.
_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SIZES = (1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000)

registry: Final[CollectorRegistry] = REGISTRY
_CollectorT = TypeVar("_CollectorT", bound=Collector)


def _registered(collector: _CollectorT) -> _CollectorT:
    registry.register(collector)
    return collector


BUILD: Final = Info("oms_webhooks_build", "The version that is running")
BUILD.info({"version": version("oms-webhooks")})
ROLE: Final = Gauge("oms_webhooks_role", "1 for each role of this process, also while it starts", ["role"])

# Dependencies of a process: probed regularly, independently of deliveries
READY: Final = Gauge("oms_webhooks_ready", "Whether a check of /readyz passes", ["check"])
DEPENDENCY_UP: Final = Gauge(
    "oms_webhooks_dependency_up", "Whether a dependency of this process answered the latest probe", ["dependency"]
)
DEPENDENCY_OUTAGES: Final = Counter(
    "oms_webhooks_dependency_outages", "Times that a dependency of this process became unavailable", ["dependency"]
)
CLOCK_OFFSET: Final = Gauge(
    "oms_webhooks_clock_offset_seconds",
    "How far the clock of this machine is ahead of the Kafka broker's; below 0: behind it",
)
CERTIFICATE_EXPIRY: Final = Gauge(
    "oms_webhooks_certificate_expiry_timestamp_seconds",
    "When a TLS certificate expires: the one that a server presented, or the client certificate in the settings",
    ["certificate"],
)

# Fan-out
EVENTS: Final = _registered(LoopCounter("oms_webhooks_events", "Events read from the source topics and decoded", ["event"]))
MATCHES: Final = _registered(LoopCounter("oms_webhooks_matches", "Endpoints matched by events", ["event"]))
UNMATCHED: Final = Counter("oms_webhooks_unmatched_events", "Events that no endpoint subscribed to", ["event"])
FILTER_FAILURES: Final = Counter(
    "oms_webhooks_filter_failures",
    "Filters that returned neither true nor false for an event, so nothing was sent. A failure on a field counts once for all "
    "endpoints that use it",
    ["reason"],
)
DEAD_LETTERS: Final = Counter("oms_webhooks_dead_letters", "Records that could not be used", ["topic", "reason"])
FIRST_ATTEMPT: Final = _registered(
    LoopHistogram(
        "oms_webhooks_event_to_first_attempt_seconds",
        "From when an event was written to Kafka to when its first attempt at an endpoint starts (the delivery objective)",
        buckets=_LATENCY,
    )
)

# Attempts
ATTEMPTS: Final = _registered(LoopCounter("oms_webhooks_attempts", "Attempts made", ["event", "outcome", "code"]))
ATTEMPT_DURATION: Final = _registered(
    LoopHistogram(
        "oms_webhooks_attempt_duration_seconds", "From the start of a request to the end of its response", _LATENCY, ["outcome"]
    )
)
ENDPOINT_ATTEMPTS: Final = _registered(
    TopEndpoints(
        "oms_webhooks_endpoint_attempts",
        "Attempts made to the endpoints that fail the most in this process (as many as metrics_top_endpoints says)",
    )
)
IN_FLIGHT: Final = Gauge("oms_webhooks_in_flight_requests", "HTTP requests in progress")
PARKED: Final = Counter("oms_webhooks_parked", "Deliveries postponed without an attempt", ["reason"])
OWN_FAULTS: Final = Counter(
    "oms_webhooks_own_faults",
    "Deliveries postponed without an attempt because this process could not send (its own faults)",
    ["reason"],
)
DISCARDED: Final = Counter("oms_webhooks_discarded", "Attempts that were due but not made", ["reason"])
HELD: Final = Gauge(
    "oms_webhooks_held_deliveries",
    "Deliveries that wait for a paused or disabled endpoint, in the partitions that this process holds",
)
HELD_EXPIRING: Final = Gauge(
    "oms_webhooks_held_expiring_endpoints", "Endpoints for which a held delivery expires within two days (or half of hold_days)"
)
RELEASED: Final = Counter("oms_webhooks_released_deliveries", "Held deliveries that are sent because their endpoint was resumed")
EXPIRED: Final = Counter("oms_webhooks_expired_deliveries", "Held deliveries that expired after hold_days")
HELD_LOST: Final = Counter("oms_webhooks_lost_held_deliveries", "Held deliveries that Kafka no longer has")
ORDERED_WAITING: Final = Gauge(
    "oms_webhooks_ordered_waiting",
    "In-order deliveries that have not ended, in the partitions that this process holds",
)
ORDERED_HELD_BACK: Final = Gauge(
    "oms_webhooks_ordered_held_back_lanes",
    "Lanes (an endpoint and a key) whose next delivery waits for a retry, or for its endpoint",
)
ORDERED_READY: Final = Gauge("oms_webhooks_ordered_ready_lanes", "Lanes whose next delivery is being made, or could be")
ORDERED_OLDEST: Final = Gauge("oms_webhooks_ordered_oldest_seconds", "How long the oldest of those deliveries has been waiting")
ORDERED_OVERDUE: Final = Gauge(
    "oms_webhooks_ordered_overdue_seconds",
    "How far the most overdue in-order delivery is past the last retry of its endpoint. Inactive endpoints are not counted",
)
ORDERED_EXPIRING: Final = Gauge(
    "oms_webhooks_ordered_expiring_endpoints",
    "Endpoints that are not active and for which an in-order delivery expires within two days (or half of hold_days)",
)
ORDERED_ENDED: Final = Counter("oms_webhooks_ordered_ended", "In-order deliveries that have ended, whatever the outcome")
RATE_LIMITED: Final = Counter(
    "oms_webhooks_rate_limited",
    "Deliveries that had to wait for their endpoint's max_per_second, or were parked for it",
    ["result"],
)
TOKEN_REQUESTS: Final = Counter(
    "oms_webhooks_token_requests", "Requests for OAuth access tokens of endpoints: granted, or failed", ["result"]
)
SLOW_ENDPOINTS: Final = Gauge("oms_webhooks_slow_endpoints", "Endpoints that are keeping requests waiting")
CIRCUITS: Final = Gauge("oms_webhooks_circuits", "Endpoints whose circuit is open, or half open for a probe", ["state"])
CIRCUIT_TRANSITIONS: Final = Counter("oms_webhooks_circuit_transitions", "Circuits that changed to a state", ["state"])
ENDPOINTS_DISABLED: Final = Counter("oms_webhooks_endpoints_disabled", "Endpoints that were disabled by this process", ["reason"])
OPERATIONAL_EVENTS: Final = Counter(
    "oms_webhooks_operational_events", "Operational events that this process has written, except endpoint.disabled", ["event"]
)
RETRIES_SCHEDULED: Final = Counter("oms_webhooks_retries_scheduled", "Records written to the delay topics", ["delay"])
RETRIES_DUE: Final = Counter("oms_webhooks_retries_due", "Records taken from the delay topics when due", ["delay"])
RETRY_LATENESS: Final = Histogram(
    "oms_webhooks_retry_lateness_seconds",
    "From when a record in a delay topic was due to when it was taken",
    ["delay"],
    buckets=_LATENCY,
)

# Kafka
CONSUMER_LAG: Final = Gauge(
    "oms_webhooks_consumer_lag_records",
    "Records between the position of the consumer and the end of the partition",
    ["group", "topic", "partition"],
)
OLDEST_UNFINISHED: Final = Gauge(
    "oms_webhooks_oldest_unfinished_seconds",
    "How long the oldest record that is due and not finished has been waiting; in a delay topic, since it was due",
    ["group", "topic"],
)
OUTSTANDING: Final = Gauge("oms_webhooks_outstanding_records", "Records taken from Kafka and not finished", ["group"])
OUTSTANDING_BYTES: Final = Gauge(
    "oms_webhooks_outstanding_bytes", "Bytes of the records taken from Kafka and not finished", ["group"]
)
BUFFERED_BYTES: Final = Gauge("oms_webhooks_buffered_bytes", "Bytes of the records fetched and not yet handed over", ["group"])
UNACKNOWLEDGED_BYTES: Final = Gauge(
    "oms_webhooks_unacknowledged_bytes", "Bytes of the records that Kafka has not acknowledged yet"
)
COMMITS: Final = Counter("oms_webhooks_commits", "Offset commits", ["group", "result"])
REBALANCES: Final = Counter("oms_webhooks_rebalances", "Changes of the assignment", ["group", "kind"])
RECORDS_MISSING: Final = Counter(
    "oms_webhooks_records_missing",
    "Records that Kafka removed before they were read, or has at offsets already read",
    ["group", "topic"],
)
FENCED: Final = Counter("oms_webhooks_fenced_completions", "Completions of records whose partition had been revoked", ["group"])
PRODUCED: Final = Counter("oms_webhooks_produced_records", "Records acknowledged by Kafka", ["topic"])
UNACKNOWLEDGED: Final = Gauge("oms_webhooks_unacknowledged_records", "Records sent to Kafka and not acknowledged yet")
PRODUCE_RETRIES: Final = Counter(
    "oms_webhooks_produce_retries", "Records sent again after Kafka did not acknowledge them", ["topic"]
)
PRODUCE_FAILURES: Final = Counter(
    "oms_webhooks_produce_failures",
    "Records that Kafka refused for good, or had not acknowledged when the process ended",
    ["topic"],
)
CONSUMER_ERRORS: Final = Counter("oms_webhooks_consumer_errors", "Errors while polling Kafka; polling continues", ["group"])
TABLE_POLL_ERRORS: Final = Counter(
    "oms_webhooks_endpoint_poll_errors",
    "Errors while reading a topic that is kept in memory (endpoints, their health, API keys, …) from Kafka; reading continues",
)
TABLE_ERRORS: Final = Counter(
    "oms_webhooks_endpoint_record_errors",
    "Records that could not be used, of endpoints, their health, event types, rate shares, API keys, sessions or deliveries in order",
)
UNREAD_TOPICS: Final = Gauge(
    "oms_webhooks_unread_source_topics", "Topics of event types added with the API that this fan-out cannot read"
)
UNREAD_TABLES: Final = Gauge(
    "oms_webhooks_unread_tables",
    "Topics that this process keeps in memory (endpoints, their health, event types, rate shares, API keys, sessions) and can no longer read",
)
ENDPOINTS: Final = Gauge("oms_webhooks_endpoints", "Registered endpoints", ["state"])

# Recorder
RECORDED: Final = Counter("oms_webhooks_recorded_rows", "Rows written to ClickHouse", ["table"])
UNRECORDED: Final = Counter(
    "oms_webhooks_unrecorded_records",
    "Records that ClickHouse refused for good: each becomes a dead letter (a dead letter itself is only in its topic)",
    ["table"],
)
REBUILD_PARTS: Final = Gauge(
    "oms_webhooks_clickhouse_rebuild_parts",
    "Parts of a table that ClickHouse still has to rebuild after a migration; until then searches in them are slower",
    ["table"],
)
BATCH_ROWS: Final = Histogram("oms_webhooks_recorder_batch_rows", "Rows in a batch", ["table"], buckets=_SIZES)
BATCH_DURATION: Final = Histogram(
    "oms_webhooks_recorder_batch_seconds", "Duration of a batch's insert", ["table"], buckets=_LATENCY
)
SEARCHABLE: Final = Histogram(
    "oms_webhooks_attempt_to_searchable_seconds",
    "From the end of an attempt to when it can be searched",
    buckets=sorted({*_LATENCY, 1.5, 2.0}),  # 95% within two seconds is promised
)
RETENTION_DROPPED: Final = Counter(
    "oms_webhooks_retention_dropped_rows", "Rows dropped from ClickHouse because they were older than retention_days", ["table"]
)
RETENTION_OVERDUE: Final = Gauge(
    "oms_webhooks_retention_overdue_rows",
    "Rows in weeks that are older than retention_days and could not be dropped when that was last tried",
    ["table"],
)
STORE_ERRORS: Final = Counter("oms_webhooks_clickhouse_errors", "Failed statements, searches included", ["kind"])
SEARCHES_WAITING: Final = Gauge("oms_webhooks_searches_waiting", "Searches that wait for their turn at ClickHouse")

# HTTP API
API_REQUESTS: Final = Counter("oms_webhooks_api_requests", "Requests to the HTTP API", ["route", "method", "status"])
API_DURATION: Final = Histogram(
    "oms_webhooks_api_request_seconds", "Duration of requests to the HTTP API", ["route"], buckets=_LATENCY
)
HTTP_CONNECTIONS: Final = Gauge("oms_webhooks_http_connections", "Open connections to the port of this process")
HTTP_CLOSED: Final = Counter(
    "oms_webhooks_http_closed_connections",
    "Connections to the port of this process that were closed: too slow, idle, or too many (shed, refused)",
    ["reason"],
)
WRONG_KEYS: Final = Counter("oms_webhooks_wrong_api_keys", "Requests to the HTTP API with an invalid key")
