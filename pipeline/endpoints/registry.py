"""Every endpoint in memory, read from the compacted topic. This is the only module that writes that topic.

Ids need no coordination: they are offsets in the topic's only partition. A write returns when this process has read it back (read
your writes). If two processes create the same target_url at once, all processes decide alike: the endpoint that is first in the
topic stays. The same applies to two changes of one endpoint, and to two changes that give two endpoints the same target_url: the
later record takes effect nowhere, and its writer gets an error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from msgspec import structs

from pipeline.broker.api import Broker, Record
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.core.filters.stored import NO_FILTERS, fields_of
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.health import HealthTable, HeldSummary
from pipeline.endpoints.key_check import sealed_sample, unusable, wrong_key
from pipeline.endpoints.subscriptions import FilterFailure, MatchInput, OnFailure, Subscriptions, ignore_failures
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.codec import InvalidRecordError, from_json, to_json
from schemas.delivery import DeadLetterReason
from schemas.endpoint import EndpointRecord
from schemas.health import HealthFact
from schemas.operational import OPERATIONAL_ENDPOINT_ID

log = logger(__name__)

_ID_CLAIM = b"id-claim"
"""Key of the records whose offsets become new ids; compaction keeps the last of them."""
_CLIENT = "endpoint-client"
"""The label of the endpoints' client certificates in the metric; the one that expires first counts."""
_MAX_CLAIMS = 20_000
"""How many claims may be written at once to skip ids up to one that was assigned elsewhere."""


def deleted(record: EndpointRecord, *, changed_by: str, at: datetime) -> EndpointRecord:
    """The last record of an endpoint: who deleted it and when, without its secrets."""
    return structs.replace(
        record,
        deleted=True,
        change="delete",
        changed_by=changed_by,
        updated_at=at,
        version=record.version + 1,
        sealed_token=None,
        sealed_headers={},
        secrets=(),
        authentication=None,
        key_pairs=(),
        signature_header=None,
        client_certificate=None,
        **fields_of(NO_FILTERS),
    )


class NewerEndpointError(Exception):
    """An endpoint's record has a newer major version: its subscriptions are unknown, so no event may be matched."""


class SupersededError(Exception):
    """A change that took no effect anywhere: another change precedes it in the topic."""


class Registry:
    """The endpoints. Used from the event loop only."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        vault: Vault,
        *,
        health: HealthTable | None = None,
        operational: Endpoint | None = None,
    ) -> None:
        """``health`` says which endpoints are disabled. ``operational`` is the built-in receiver of operational events.

        The built-in receiver is not a registered endpoint: deliveries find it, the API does not.
        """
        self._topic = topic
        self._vault = vault
        self.health = health
        self.operational = operational
        if health is not None:
            health.follow(HealthFact.DISABLED, self._disabled)
        self.table = CompactedTable(broker, topic, self._apply)
        self.on_idle: Callable[[int], None] = lambda _: None
        """Called with the id of an endpoint that nothing is sent to any more: it was deleted, paused or disabled."""
        self.on_deleted: Callable[[int], None] = lambda _: None
        """Called with the id of a deleted endpoint, in addition to ``on_idle``. No other endpoint will get its id."""
        self.on_resumed: Callable[[int], None] = lambda _: None
        """Called with the id of an endpoint that is active again."""
        self._endpoints: dict[int, Endpoint] = {}
        self._subscriptions = Subscriptions()
        self._states: Counter[str] = Counter()
        self._ids_by_url: dict[str, int] = {}
        self._versions: dict[int, int] = {}
        """The version of every endpoint that was read, including deleted ones: a late change must not bring one back."""
        self._deleted: dict[int, datetime] = {}
        """When each deleted endpoint was created, to recognize it in a backup."""
        self._unsettled: dict[int, EndpointRecord] = {}
        """Endpoints whose last record took no effect. Compaction would keep only that one; see :meth:`settle`."""
        self._refused: set[int] = set()
        """Offsets of the records that took no effect."""
        self._sample: bytes | None = None
        """The value of the last claim of an id: see `key_check`."""
        self._ordered: set[int] = set()
        """Endpoints that get their events in order."""
        self._certificates: dict[int, datetime] = {}
        """When the client certificate of each active endpoint expires."""
        self._had_certificates = False
        self._settling = asyncio.Lock()
        self._newer: dict[bytes | None, str] = {}
        """Why a record cannot be read, by its key."""

    def may_write(self, producer: Producer) -> bool:
        """Whether Kafka accepts changes. If earlier ones have waited for long, another one would only queue behind them."""
        return not producer.is_stuck(self._topic)

    def get(self, endpoint_id: int) -> Endpoint | None:
        """A registered endpoint that is not deleted."""
        return self._endpoints.get(endpoint_id)

    def receiver(self, endpoint_id: int) -> Endpoint | None:
        """As :meth:`get`, but for deliveries: includes the built-in receiver."""
        return self.operational if endpoint_id == OPERATIONAL_ENDPOINT_ID else self.get(endpoint_id)

    def is_deleted(self, endpoint_id: int) -> bool:
        """Whether the endpoint is known to be deleted. False for one that is unknown (yet)."""
        return endpoint_id in self._deleted

    def held(self, endpoint: Endpoint) -> HeldSummary:
        """The held deliveries of a paused or disabled endpoint, without dropped ones."""
        if self.health is None:
            return HeldSummary()
        return self.health.held(endpoint.id, endpoint.record.drops)

    def waiting(self, endpoint: Endpoint) -> int:
        """How many deliveries are sent when the endpoint is active again: held ones, and those that wait in order."""
        in_order = self.health.ordered(endpoint.id).count if self.health is not None else 0
        return self.held(endpoint).count + in_order

    @property
    def has_ordered(self) -> bool:
        """Whether any endpoint gets its events in order."""
        return bool(self._ordered)

    def all(self) -> list[Endpoint]:
        """Every endpoint that is not deleted, by id."""
        return sorted(self._endpoints.values(), key=lambda endpoint: endpoint.id)

    def receivers(self) -> list[Endpoint]:
        """As :meth:`all`, with the built-in receiver. Attempts at any other endpoint are at one that was deleted."""
        return [*([self.operational] if self.operational is not None else []), *self.all()]

    def by_url(self, target_url: str) -> Endpoint | None:
        """The endpoint with this target_url. There is never more than one."""
        endpoint_id = self._ids_by_url.get(target_url)
        return None if endpoint_id is None else self._endpoints[endpoint_id]

    def problem(self) -> str | None:
        """Why this process can deliver to no endpoint at all, and what to do (for health checks)."""
        unread = self.table.problem() or (self.health.table.problem() if self.health is not None else None)
        return unread or self.wrong_key()

    def wrong_key(self) -> str | None:
        """Why the encryption key must be wrong, and what to do: with a wrong key, nothing may be encrypted."""
        return wrong_key(self._endpoints.values(), self._sample, self._vault) if self.table.is_caught_up else None

    def unusable(self) -> str | None:
        """How many endpoints cannot be delivered to, and why not."""
        return unusable(self._endpoints.values())

    def refuse_newer(self) -> None:
        """Make sure that every endpoint can be read. Continuing without one would silently lose its notifications.

        Raises:
            NewerEndpointError: a newer release wrote an endpoint, and this is still its last record.
        """
        if self._newer:
            key, reason = next(iter(self._newer.items()))
            message = (
                f"Endpoint {(key or b'?').decode('utf-8', 'replace')} was written by a newer release, so this process cannot "
                "continue. Upgrade it: the API comes last in an upgrade. Nothing is lost: events and deliveries wait in Kafka. "
                f"({reason})"
            )
            raise NewerEndpointError(message)

    def matching(self, event: MatchInput, on_failure: OnFailure = ignore_failures) -> list[Endpoint]:
        """The endpoints that subscribe to the event and whose filters accept it. ``on_failure`` is called for filters that fail.

        Includes endpoints that are not active: their deliveries are held.
        """
        return self._subscriptions.matching(event, on_failure)

    def concerned_by(self, failure: FilterFailure) -> list[Endpoint]:
        """The endpoints whose filters first compare the path of a failure, and fail with it."""
        return self._subscriptions.concerned_by(failure)

    async def create(self, producer: Producer, make: Callable[[int], EndpointRecord]) -> tuple[Endpoint, bool]:
        """Register an endpoint. If its target_url is registered already, return that endpoint and False.

        ``make`` builds the record for the new id.
        """
        while True:
            claim = await producer.send(self._topic, key=_ID_CLAIM, value=sealed_sample(self._vault))
            record = make(claim.offset + 1)
            if existing := self.by_url(record.target_url):
                return existing, False
            try:
                await self.write(producer, record)
            except SupersededError:
                await self.settle(producer)
                if first := self.by_url(record.target_url):
                    return first, False
                # The first one was deleted meanwhile: the URL is free again.
            else:
                return self._endpoints[record.id], True

    def may_return(self, endpoint_id: int, created_at: datetime) -> bool:
        """Whether an endpoint of a backup may get its id back: it is this deleted endpoint, or the id was never used."""
        known = endpoint_id in self._versions
        return endpoint_id > 0 and (self._deleted.get(endpoint_id) == created_at if known else True)

    async def reserve(self, producer: Producer, endpoint_id: int) -> bool:
        """Make sure that no new endpoint gets this id. Returns False if that would take too many records."""
        value = sealed_sample(self._vault)
        claim = await producer.send(self._topic, key=_ID_CLAIM, value=value)
        missing = endpoint_id - 1 - claim.offset
        if missing > _MAX_CLAIMS:
            return False
        await asyncio.gather(*(producer.send(self._topic, key=_ID_CLAIM, value=value) for _ in range(missing)))
        return True

    def next_version(self, endpoint_id: int) -> int:
        """The lowest version for the next record of an endpoint, even if it is deleted or new."""
        return self._versions.get(endpoint_id, 0) + 1

    async def write(self, producer: Producer, record: EndpointRecord) -> None:
        """Write a change and wait until it can be read here.

        Raises:
            SupersededError: it took no effect: the endpoint was changed at the same time (then its version has changed), or
                another endpoint got the target_url. Call :meth:`settle` if there is nothing else to write for the endpoint.
        """
        position = await producer.send(self._topic, key=str(record.id).encode(), value=to_json(record))
        await self.table.wait_for(position.offset)
        if position.offset in self._refused:
            raise SupersededError(f"Another change of endpoint {record.id}, or of its target_url, was first.")

    async def settle(self, producer: Producer) -> None:
        """Write the endpoints again whose last record took no effect: compaction keeps only the last record.

        Called by the writer of such a record, and by an API process that starts, in case the writer died before. If two processes
        do it at once, they write the same.
        """
        async with self._settling:  # two loops that take turns at being first would never end
            while self._unsettled:
                endpoint_id, refused = next(iter(self._unsettled.items()))
                current = self._endpoints.get(endpoint_id)
                record = (
                    deleted(refused, changed_by=refused.changed_by, at=refused.updated_at) if current is None else current.record
                )
                next_version = max(self._versions.get(endpoint_id, 0), 0 if current else refused.version) + 1
                with suppress(SupersededError):  # somebody changed the endpoint in the meantime, so it is checked again
                    await self.write(producer, structs.replace(record, version=next_version))

    def _apply(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.key == _ID_CLAIM:
                self._sample = record.value
                continue
            try:
                self._apply_one(record)
                self._newer.pop(record.key, None)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one record, the others must be applied
                metrics.TABLE_ERRORS.inc()
                # The text of an unexpected error may contain a value of the record.
                reason = str(error) if isinstance(error, InvalidRecordError) else type(error).__name__
                if isinstance(error, InvalidRecordError) and error.reason is DeadLetterReason.UNSUPPORTED_VERSION:
                    self._newer[record.key] = reason
                log.warning("an endpoint record cannot be used", topic=self._topic, offset=record.offset, error=reason)
        self._count()
        if self.table.is_caught_up:  # before that, a later record may replace it
            self.refuse_newer()

    def _count(self) -> None:
        for state in ("active", "paused", "disabled", "unusable", "unverified"):
            metrics.ENDPOINTS.labels(state).set(self._states[state])
        if self._certificates:
            metrics.CERTIFICATE_EXPIRY.labels(_CLIENT).set(min(self._certificates.values()).timestamp())
        elif self._had_certificates:
            metrics.CERTIFICATE_EXPIRY.remove(_CLIENT)
        self._had_certificates = bool(self._certificates)

    def _apply_one(self, record: Record) -> None:
        if record.value is None:
            self._replace(int(record.key or b"0"), None)
            return
        change = from_json(record.value, EndpointRecord)
        if self._is_superseded(change):
            self._unsettled[change.id] = change
            self._refused.add(record.offset)
            return
        self._versions[change.id] = change.version
        self._unsettled.pop(change.id, None)
        self._deleted.pop(change.id, None)
        if change.deleted:
            self._deleted[change.id] = change.created_at
        endpoint = None if change.deleted else self._with_disabled_state(open_endpoint(change, self._vault))
        self._replace(change.id, endpoint)
        # Only after everything was read: an outdated record may be encrypted with a key that no longer exists.
        if endpoint is not None and endpoint.problem and self.table.is_caught_up:
            log.warning("an endpoint is unusable, so its deliveries wait", endpoint_id=endpoint.id, problem=endpoint.problem)

    def _is_superseded(self, change: EndpointRecord) -> bool:
        """Whether a record comes too late. All processes read the same order, so all decide alike."""
        if change.version <= self._versions.get(change.id, 0):
            return True
        other = None if change.deleted else self.by_url(change.target_url)
        return other is not None and other.id != change.id

    def _replace(self, endpoint_id: int, endpoint: Endpoint | None) -> None:
        """Set or remove an endpoint. The indexes are updated for it only: there may be many others."""
        if former := self._endpoints.pop(endpoint_id, None):
            self._subscriptions.remove(former)
            self._states[_state(former)] -= 1
            del self._ids_by_url[former.target_url]
        self._certificates.pop(endpoint_id, None)
        self._ordered.discard(endpoint_id)
        if endpoint is None or not endpoint.active:
            self.on_idle(endpoint_id)
        if endpoint is None:
            self.on_deleted(endpoint_id)
            return
        self._endpoints[endpoint_id] = endpoint
        self._ids_by_url[endpoint.target_url] = endpoint_id
        self._subscriptions.add(endpoint)
        self._states[_state(endpoint)] += 1
        if endpoint.record.ordered:
            self._ordered.add(endpoint_id)
        if endpoint.active and endpoint.record.client_certificate is not None:
            self._certificates[endpoint_id] = endpoint.record.client_certificate.expires_at
        if former is not None and not former.active and endpoint.active and self.table.is_caught_up:
            self.on_resumed(endpoint_id)

    def _disabled(self, endpoint_ids: AbstractSet[int]) -> None:
        """The health table has learned that endpoints were disabled."""
        for endpoint_id in endpoint_ids & self._endpoints.keys():
            self._replace(endpoint_id, self._with_disabled_state(self._endpoints[endpoint_id]))
        self._count()

    def _with_disabled_state(self, endpoint: Endpoint) -> Endpoint:
        disabled = self.health.disabled(endpoint.record) if self.health is not None else None
        return endpoint if disabled == endpoint.disabled else replace(endpoint, disabled=disabled)


def _state(endpoint: Endpoint) -> str:
    if endpoint.problem:
        return "unusable"
    return state_of(endpoint)


def state_of(endpoint: Endpoint) -> str:
    """``active``, ``paused`` (temporarily, by its owner), ``disabled`` (by a person, or because it was gone or failed for too
    long), or ``unverified`` (it has not confirmed yet that it wants webhooks).
    """
    if endpoint.active:
        return "active"
    if not endpoint.record.active:
        return "paused" if endpoint.record.disabled_at is None else "disabled"
    return "unverified" if endpoint.disabled is None else "disabled"
