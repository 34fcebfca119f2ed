"""What must hold after every scenario, whatever happened: each promise names what it found broken. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.store.rows import attempt_id
from tests.faults.evidence import Evidence, StoredRow, examples
from tests.faults.kafka_view import TopicOffset


def broken(evidence: Evidence, *, most_duplicates: int, dead_letters: int = 0) -> list[str]:
    """A sentence for each promise that was not kept; none when all is well.

    ``most_duplicates`` are the deliveries that were in flight at the faults, ``dead_letters`` the records that are unusable.
    """
    findings = [finding for promise in PROMISES for finding in promise(evidence)]
    if evidence.duplicates > most_duplicates:
        twice = [pair for pair, count in evidence.balance.items() if count > 0]
        findings.append(
            f"{evidence.duplicates:,} requests too many, though only {most_duplicates:,} deliveries were in flight at the faults, "
            f"such as {examples(twice)}"
        )
    if len(evidence.dead_letters) != dead_letters:
        reasons = Counter(letter.reason for letter in evidence.dead_letters)
        findings.append(f"{len(evidence.dead_letters)} dead letters instead of {dead_letters}: {dict(reasons)}")
    return findings


def _nothing_is_missing(evidence: Evidence) -> Iterator[str]:
    if missing := evidence.missing:
        yield f"{len(missing):,} notifications never arrived, such as {examples(missing)}"
    if lost := evidence.lost:
        yield f"{len(lost):,} notifications have fewer requests than were due, such as {examples(lost)}"
    if unrecorded := evidence.unrecorded:
        yield f"{len(unrecorded):,} notifications have no record of how they ended, such as {examples(unrecorded)}"


def _clickhouse_holds_each_record_once(evidence: Evidence) -> Iterator[str]:
    aside = {letter.source for letter in evidence.dead_letters}
    attempts = [attempt.position for attempt in evidence.attempts if attempt.position not in aside]
    yield from _stored_once("attempt", attempts, evidence.stored_attempts)
    dispatches = [position for position in evidence.dispatches if position not in aside]
    yield from _stored_once("dispatch", dispatches, evidence.stored_dispatches)
    yield from _stored_once("dead letter", [letter.position for letter in evidence.dead_letters], evidence.stored_dead_letters)
    wrong = [row for row in evidence.stored_attempts or () if row.id != attempt_id(row.partition, row.offset)]
    if wrong:
        yield f"{len(wrong):,} attempts have the id of another record, such as {wrong[:5]}"


def _stored_once(kind: str, records: Iterable[TopicOffset], rows: Sequence[StoredRow] | None) -> Iterator[str]:
    """One row a record of Kafka, one record a row: compared one by one."""
    if rows is None:
        return
    stored = Counter((row.partition, row.offset) for row in rows)
    acknowledged = {(position.partition, position.offset) for position in records}
    found = {
        "not in ClickHouse": acknowledged - stored.keys(),
        "in ClickHouse more than once": {position for position, count in stored.items() if count > 1},
        "in ClickHouse and not in Kafka": stored.keys() - acknowledged,
    }
    for where, positions in found.items():
        if positions:
            yield f"{len(positions):,} {kind} records are {where}, such as partition and offset {sorted(positions)[:5]}"


def _nobody_got_what_they_did_not_want(evidence: Evidence) -> Iterator[str]:
    if unwanted := evidence.request_counts.keys() - evidence.expected:
        yield f"{len(unwanted):,} notifications went to endpoints that had not subscribed, such as {examples(unwanted)}"


def _every_repeat_carries_the_same_id_and_body(evidence: Evidence) -> Iterator[str]:
    if different := [event_id for event_id, hashes in evidence.body_hashes.items() if len(hashes) > 1]:
        yield f"{len(different):,} events were sent with several bodies, such as {sorted(different)[:5]}"


PROMISES: Sequence[Callable[[Evidence], Iterator[str]]] = (
    _nothing_is_missing,
    _clickhouse_holds_each_record_once,
    _nobody_got_what_they_did_not_want,
    _every_repeat_carries_the_same_id_and_body,
)
