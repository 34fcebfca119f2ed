"""Who dealt with something, from the audit log: resent notifications, and repaired or dismissed dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.store.reader import Reader, sql
from schemas.audit import AuditAction

PUBLISHED: Final = "published "
"""How an audit record's detail begins if Kafka has acknowledged the repair of a dead letter."""
LETTER: Final = "dead letter "
"""How the subject of such a record begins; the id follows."""
_DISMISSED: Final = AuditAction.DISMISS_DEAD_LETTER.value
_REPAIRS: Final = f"FROM audit_log WHERE (action = '{AuditAction.REPUBLISH.value}' AND startsWith(detail, '{PUBLISHED}') OR action = '{_DISMISSED}')"
REPAIRED_SUBJECTS: Final = f"SELECT subject {_REPAIRS}"
_EVENT: Final = r"extract(detail, '^event (.*), endpoint [0-9]+')"
_ENDPOINT: Final = r"toInt64OrZero(extract(detail, ', endpoint ([0-9]+)(?:$|, run )'))"


@dataclass(frozen=True, slots=True)
class DoneBy:
    """Who did something, and when. ``name`` is the name at that time; empty if the record has none."""

    at: datetime
    actor: str
    name: str


@dataclass(frozen=True, slots=True)
class RepairedBy(DoneBy):
    """Who published a dead letter again, or dismissed it without that, and when."""

    is_dismissed: bool = False


async def repairs(reader: Reader, letters: Sequence[int]) -> Mapping[int, RepairedBy]:
    """The last repair or dismissal of each of these dead letters, if there was one."""
    if not letters:
        return {}
    rows = await reader.rows(
        sql(
            "SELECT toInt64OrZero(substring(subject, {length:UInt8})) AS letter, max(at), argMax(actor, at), argMax(actor_name, at),",
            "argMax(action, at)",
            _REPAIRS,
            "AND subject IN {subjects:Array(String)} GROUP BY letter",
        ),
        {"length": len(LETTER) + 1, "subjects": [f"{LETTER}{one}" for one in letters]},
    )
    return {int(letter): RepairedBy(at, actor, name, action == _DISMISSED) for letter, at, actor, name, action in rows}


async def resends(reader: Reader, events: Sequence[str], since: datetime) -> Mapping[tuple[str, int], DoneBy]:
    """The last resend of these events to each endpoint since a time, by event and endpoint."""
    if not events:
        return {}
    rows = await reader.rows(
        sql(
            "SELECT",
            _EVENT,
            "AS event,",
            _ENDPOINT,
            "AS endpoint, max(at), argMax(actor, at), argMax(actor_name, at) FROM audit_log",
            "WHERE action = 'resend' AND at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND event IN {events:Array(String)}",
            "GROUP BY event, endpoint",
        ),
        {"events": list(events), "since": int(since.timestamp() * 1000)},
    )
    return {(event, int(endpoint)): DoneBy(at, actor, name) for event, endpoint, at, actor, name in rows}
