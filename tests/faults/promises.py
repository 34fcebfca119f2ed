"""What must hold after every scenario, whatever happened: each promise reports how it was broken. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.faults.evidence import Evidence, StoredRow, examples


def broken(evidence: Evidence, *, most_duplicates: int, dead_letters: int = 0) -> list[str]:
    """Return a sentence for each broken promise.

    ``most_duplicates`` are the deliveries in flight at the faults, ``dead_letters`` the unusable records.
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
    """Check that every row of a record is there once, and no row of a dead letter."""
    attempts = [StoredRow(each.position.partition, each.position.offset, each.id) for each in evidence.attempts]
    letters = [StoredRow(letter.position.partition, letter.position.offset, 0) for letter in evidence.dead_letters]
    yield from _stored_once("attempts", evidence.without_set_aside("attempts", attempts), evidence.stored_attempts)
    yield from _stored_once(
        "dispatches", evidence.without_set_aside("dispatches", evidence.dispatches), evidence.stored_dispatches
    )
    yield from _stored_once("dead letters", letters, evidence.stored_dead_letters)


def _stored_once(kind: str, wanted: Iterable[StoredRow], rows: Sequence[StoredRow] | None) -> Iterator[str]:
    """Compare the contents of Kafka and ClickHouse one by one."""
    if rows is None:
        return
    acknowledged, stored = Counter(wanted), Counter(rows)
    if lost := acknowledged - stored:
        yield f"{lost.total():,} {kind} are not in ClickHouse, such as {list(lost)[:5]}"
    if surplus := stored - acknowledged:
        yield f"{surplus.total():,} {kind} in ClickHouse are too many, or have nothing in Kafka, such as {list(surplus)[:5]}"


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
