"""The size of a run: the full form proves the promises, the short form (``FAULTS_FORM=short``) finds recent regressions."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scale:
    """Sizes of a run; times in seconds."""

    form: str
    events: int
    seeds: int
    """The number of random seeds for each scenario."""
    kills: int
    recorder_kills: int
    """Of the process that writes to ClickHouse."""
    restarts: int
    """Rounds of SIGTERM, role by role."""
    rounds: int
    """Rounds of everything else that is repeated: rebalances, stops, jumps."""
    broker_outage_seconds: float
    clickhouse_outage_seconds: float
    events_a_second: float
    settle_seconds: float


FULL = Scale(
    form="full",
    events=20_000,
    seeds=2,
    kills=20,
    recorder_kills=50,
    restarts=3,
    rounds=3,
    broker_outage_seconds=30.0,
    clickhouse_outage_seconds=180.0,
    events_a_second=250.0,
    settle_seconds=400.0,
)
SHORT = Scale(
    form="short",
    events=2_000,
    seeds=1,
    kills=6,
    recorder_kills=4,
    restarts=1,
    rounds=1,
    broker_outage_seconds=5.0,
    clickhouse_outage_seconds=6.0,
    events_a_second=200.0,
    settle_seconds=180.0,
)


def chosen_scale() -> Scale:
    """Return the size from the environment: ``FAULTS_FORM`` (full, short), ``FAULTS_EVENTS``, ``FAULTS_SEEDS``, ``FAULTS_KILLS``.

    Raises:
        ValueError: a variable has an invalid value.
    """
    forms = {scale.form: scale for scale in (FULL, SHORT)}
    form = os.environ.get("FAULTS_FORM") or FULL.form
    if form not in forms:
        raise ValueError(f"FAULTS_FORM is {form!r}; write full or short.")
    scale = forms[form]
    return replace(
        scale,
        events=int(os.environ.get("FAULTS_EVENTS") or scale.events),
        seeds=int(os.environ.get("FAULTS_SEEDS") or scale.seeds),
        kills=int(os.environ.get("FAULTS_KILLS") or scale.kills),
    )


def chosen_seeds(scale: Scale) -> list[int]:
    """Return ``FAULTS_SEED``, which repeats a run, or else new seeds."""
    if seed := os.environ.get("FAULTS_SEED"):
        return [int(seed)]
    return [secrets.randbelow(1_000_000) for _ in range(scale.seeds)]


def chosen_client() -> str:
    """Return the roles' Kafka client (a value of the setting ``kafka_client``) from the environment: ``FAULTS_CLIENT``."""
    return os.environ.get("FAULTS_CLIENT") or "kafka-python"
