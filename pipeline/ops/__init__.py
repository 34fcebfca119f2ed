"""What every role needs to run: settings, logs, metrics, health, tracing.

Uses `core`, prometheus-client, structlog and, in `tracing.py` only, OpenTelemetry.
Start reading in `settings.py` (every setting) and `metrics.py` (every metric).
"""
