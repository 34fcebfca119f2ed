"""The path of a delivery: one attempt of one event at one endpoint, and every record that follows from it.

::

    Delivery -- outcome() --> DeliveryOutcome -- records_of() --> DeliveryRecords -- write() --> acknowledged by Kafka

    admission --> signed_request --> sender --> judge --> AttemptResult     an attempt; and a retry, unless it was the last
        `-- refused, or not sent ----------------------> ParkedDelivery    the same attempt, later
    its endpoint is paused or disabled ----------------> HeldDelivery      the same attempt, when the endpoint is resumed
    it will not be made -------------------------------> DiscardedDelivery an attempt that says why
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from msgspec import structs

from pipeline.broker.record_batcher import EntryPosition
from pipeline.core.local_faults import PARKED_IN_DOUBT, NotSent, NotSentError, with_fault_attributed
from pipeline.core.outcome import judge
from pipeline.core.retry import RetrySchedule
from pipeline.core.retry_policies import RetryPolicies
from pipeline.delivery.access_tokens import AccessTokens
from pipeline.delivery.admission import PARKED_WHILE_BUSY, UNUSABLE, Admission, Pass, Refusal
from pipeline.delivery.delivery import AttemptResult, Delivery, DeliveryOutcome, HeldDelivery, ParkedDelivery
from pipeline.delivery.endpoint_health_monitor import EndpointHealthMonitor
from pipeline.delivery.observer import DeliveryObserver
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.delivery.records import DeliveryRecords, attempt_record, records_of
from pipeline.delivery.signed_request import signed_request
from pipeline.ops.clock import Clock
from pipeline.ops.fault_report import LocalFaultReport
from pipeline.sender.client import Sender
from schemas.attempt import Attempt
from schemas.delivery import DeliveryRecord

_NO_RETRIES: Final = RetrySchedule(())


@dataclass(kw_only=True)
class DeliveryService:
    """Makes attempts, and writes their results. One per process."""

    sender: Sender
    admission: Admission
    health_monitor: EndpointHealthMonitor
    publisher: DeliveryPublisher
    policies: RetryPolicies
    clock: Clock
    observer: DeliveryObserver = field(default_factory=DeliveryObserver)
    own_faults: LocalFaultReport = field(default_factory=LocalFaultReport)
    access_tokens: AccessTokens = field(init=False)

    def __post_init__(self) -> None:
        """Access tokens are requested through the same sender."""
        self.access_tokens = AccessTokens(self.sender)

    async def deliver(self, delivery: Delivery) -> None:
        """Make one attempt, park the delivery if it is not admitted (see Admission), or hold it if its endpoint is paused.

        Returns when Kafka has acknowledged all resulting records (the attempt, and the retry if there is one). If the process dies
        before that, the input record is not committed, and the attempt is made again with the same webhook-id.
        """
        await self.settle(await self.outcome(delivery))

    async def outcome(self, delivery: Delivery) -> DeliveryOutcome:
        """Make one attempt, if it may be made now. Nothing is written yet; `settle` does that."""
        outcome = await self._attempt_if_admitted(delivery)
        return self._parked(delivery, outcome) if isinstance(outcome, Refusal) else outcome

    async def _attempt_if_admitted(self, delivery: Delivery) -> AttemptResult | HeldDelivery | Refusal:
        """Make one attempt with the endpoint as it is now: somebody may have changed it while the delivery waited."""
        if not delivery.endpoint.active:
            return HeldDelivery(delivery)
        # While Kafka does not acknowledge records, start nothing: the results would pile up here.
        await self.publisher.room()
        admitted = await self.admission.enter(delivery.endpoint)
        if isinstance(admitted, Refusal):
            return admitted
        with admitted:
            endpoint = self.admission.current(delivery.endpoint)
            if endpoint is None or not endpoint.active:
                return HeldDelivery(delivery)  # if it was deleted, the retry discards it
            if endpoint.problem is not None:
                return UNUSABLE
            if endpoint is not delivery.endpoint:
                delivery = replace(delivery, endpoint=endpoint)
            result = await self._attempt(delivery, admitted)
        if isinstance(result, NotSent):
            self.own_faults.count(result.fault, result.detail)
            return Refusal(result.fault.value, PARKED_WHILE_BUSY)
        return result

    async def _attempt(self, delivery: Delivery, admitted: Pass | None) -> AttemptResult | NotSent:
        """Sign, send, and judge the answer. A delivery without a pass is a test and has no retries."""
        endpoint = delivery.endpoint
        span = self.observer.begin(delivery)
        trace = delivery.trace if span is None else span.trace
        started_at = self.clock()
        signed = signed_request(delivery, trace, started_at)
        on_start = None if admitted is None else admitted.start
        if endpoint.token_request is None:
            sent = await self.sender.post(signed.request, on_start)
        else:
            sent = await self.access_tokens.post(endpoint, endpoint.token_request, signed.request, on_start)
        exchange = with_fault_attributed(sent, delivery.parked)
        if isinstance(exchange, NotSent):
            return exchange
        finished_at = self.clock()
        if admitted is not None:
            admitted.end(exchange, finished_at)
        schedule = _NO_RETRIES if admitted is None else self.policies.schedule_of(endpoint.record.retry_policy)
        verdict = judge(exchange, delivery.attempt, schedule, finished_at)
        redacted = endpoint.redactor.redact(exchange)  # before anything of it is written, logged or traced
        return AttemptResult(delivery, signed, redacted, verdict, started_at, finished_at, trace, span)

    async def settle(self, outcome: DeliveryOutcome, *, in_place: bool = False) -> None:
        """Report an outcome and write the resulting records. Returns when Kafka has all of them.

        ``in_place``: only the attempt is written. The delivery stays where it is, and the caller handles the next step.
        """
        result = outcome if isinstance(outcome, AttemptResult) else None
        records = records_of(outcome, self.clock() if result is None else result.finished_at)
        if in_place:
            records = DeliveryRecords(records.attempt)
        self.observer.report(outcome, records.attempt)
        disabled = None if result is None else self._record_result(result)
        await self.publisher.write(records, urgent=in_place)
        if disabled is not None:
            await disabled

    def _record_result(self, result: AttemptResult) -> Awaitable[None] | None:
        """Record what the result says about the endpoint's health: nothing, if the endpoint was changed or deleted since the request
        started. Its owner would be told that an endpoint was disabled which stays active.
        """
        tried = result.delivery.endpoint
        current = self.admission.current(tried)
        if current is None or current.record.activated_version > tried.record.activated_version:
            return None
        return self.health_monitor.record_result(tried, result.exchange)

    async def park_for_unknown_endpoint(self, due: DeliveryRecord, body: bytes) -> None:
        """Postpone a delivery whose endpoint this process has not read (yet). Returns when Kafka has it."""
        self.observer.endpoint_unknown(due)
        delay = self.policies.standard.parking(due.parked, timedelta(0), PARKED_WHILE_BUSY)
        await self.publisher.schedule(structs.replace(due, parked=due.parked + 1), body, delay)

    def forget(self, endpoint_id: int) -> None:
        """Forget an endpoint that nothing is sent to any more."""
        self.admission.forget(endpoint_id)
        self.access_tokens.forget(endpoint_id)

    def _parked(self, delivery: Delivery, refusal: Refusal) -> ParkedDelivery:
        """Postpone a delivery without using up an attempt (promise 4)."""
        among = self._short_delays if refusal.is_recovery else ()
        delay = self.policies.standard.parking(delivery.parked, refusal.at_least, refusal.longest, among)
        return ParkedDelivery(delivery, refusal.reason, delay, refusal.at_least)

    @functools.cached_property
    def _short_delays(self) -> tuple[timedelta, ...]:
        """The delays for which a delivery to a recovering endpoint may be parked."""
        return tuple(delay for delay in self.policies.delays if delay <= PARKED_WHILE_BUSY)

    async def test(self, delivery: Delivery) -> tuple[Attempt, EntryPosition]:
        """Make one attempt now, without a retry. Returns its record and its position in Kafka.

        It does not wait for admission, and the endpoint may be paused, because a user wants to see the answer.

        Raises:
            NotSentError: nothing was sent because of a fault on our side.
        """
        # A test is never parked: a fault that may be the endpoint's counts as the endpoint's.
        result = await self._attempt(replace(delivery, parked=PARKED_IN_DOUBT), admitted=None)
        if isinstance(result, NotSent):
            raise NotSentError(result.detail)
        record = attempt_record(result)
        self.observer.report(result, record)
        return record, await self.publisher.attempt(record, urgent=True)
