"""Resends all failed notifications of a search, in the background: at a bounded rate, on record, and safe to begin again.

What if the process dies? What was resent until then was acknowledged by Kafka and will be made. How far the run had come is in the
audit (topic ``webhooks.audit``, table ``audit_log``): a record before the first resend, one before each, one after each batch.
Every API process reads it there, so that any of them can show a run, and cancel it. Who starts the same search again sends what is
left: what was delivered meanwhile is left out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from pipeline.broker.api import PublishError
from pipeline.core.search import AttemptQuery
from pipeline.ops.logs import logger
from pipeline.store.notifications import Failed, Notification, Sendable
from pipeline.store.reports import RunRow
from pipeline.web.api import Api
from pipeline.web.audit import Asker, put_on_record
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.resending import send_again
from pipeline.web.runs import Run
from pipeline.web.searching import searching
from schemas.audit import AuditAction, ResendProgress, RunState

log = logger(__name__)

MOST: Final = 100_000
"""Notifications that one run sends at most."""
_BATCH: Final = 50
_SILENT_AFTER: Final = timedelta(seconds=60)
"""How long after its last sign a run is taken for dead. A batch takes a second or so."""


class _Work:
    """One run in this process."""

    def __init__(self, api: Api, who: Asker, notifications: Sequence[Notification]) -> None:
        self.id = secrets.token_hex(8)
        self.is_cancelled = False
        self._api = api
        self._who = who
        self._notifications = notifications
        self._started_at = self._heard_at = api.clock()
        self.progress = ResendProgress(state=RunState.RUNNING, total=len(notifications))

    def seen(self) -> Run:
        """As people see it."""
        return Run(self.id, self._who.actor, self._started_at, self._heard_at, self.progress)

    async def tell(self, **changes: object) -> None:
        """Put on record how far it has come."""
        self.progress = self.progress.model_copy(update=changes)
        self._heard_at = self._api.clock()
        detail = self.progress.model_dump_json()
        await put_on_record(self._api, self._who, AuditAction.RESEND_RUN, f"resend run {self.id}", detail)

    async def carry_out(self) -> None:
        """Send batch after batch until all are sent, or somebody or something ends it."""
        try:
            for first in range(0, len(self._notifications), _BATCH):
                if await self._is_cancelled():
                    await self.tell(state=RunState.CANCELLED)
                    return
                await self._send(self._notifications[first : first + _BATCH])
                await self.tell()
            await self.tell(state=RunState.DONE)
        except asyncio.CancelledError:
            await self._end(RunState.STOPPED, "The process that carried it out was stopped.")
            raise
        except (ApiError, PublishError) as error:
            await self._end(RunState.FAILED, str(error))
        except Exception:
            log.exception("a run that resends failed", run=self.id)
            await self._end(RunState.FAILED, "Something went wrong here; the log of the API says what.")

    async def _is_cancelled(self) -> bool:
        if not self.is_cancelled:
            async with searching(self._api):
                rows = await self._api.reports.resend_runs(self.id)
            self.is_cancelled = any(row.is_cancelled for row in rows)
        return self.is_cancelled

    async def _send(self, batch: Sequence[Notification]) -> None:
        async with searching(self._api):
            found = await self._api.search.sendable(batch)
        for one in batch:
            again = found.get(one.attempt_id)
            if again is not None and again.is_delivered:
                self._count("delivered", one)
            elif again is not None and await self._is_sent(again):
                self._count("resent", one)
                await asyncio.sleep(self._api.runs.pause_seconds)
            else:
                self._count("skipped", one)

    async def _is_sent(self, again: Sendable) -> bool:
        try:
            await send_again(self._api, self._who, again.attempt, again.received_at, again.body, run=self.id)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
        return True

    def _count(self, what: str, one: Notification) -> None:
        changes = {what: getattr(self.progress, what) + 1, "last_attempt_id": one.attempt_id}
        self.progress = self.progress.model_copy(update=changes)

    async def _end(self, state: RunState, problem: str) -> None:
        try:
            await self.tell(state=state, problem=problem)
        except (ApiError, PublishError) as error:
            log.warning("the end of a run that resends could not be put on record", run=self.id, error=str(error))


def doubts(query: AttemptQuery) -> list[str]:
    """Why a search is not taken for what is to be sent again: more might be sent than is meant."""
    found = [
        f"{one} has no value. Give one, or leave it out: without it, more would be sent than you mean." for one in query.blank
    ]
    if not query.conditions:
        found.append("Give a filter: an endpoint, a time range, an order number, …")
    return found


async def preview(api: Api, query: AttemptQuery) -> Failed:
    """What a run would send.

    Raises:
        ApiError: 422, the search takes too much; 503, ClickHouse does not answer.
    """
    async with searching(api):
        return await api.search.failed(query, MOST)


async def start_run(api: Api, who: Asker, query: AttemptQuery) -> Run:
    """Begin to resend all failed notifications of a search, each once; returns when that is on record.

    Raises:
        ApiError: 409, another run is under way here; 422, a filter means nothing, or there are too many; 503.
    """
    if query.ignored:
        raise InvalidError({"q": [*query.ignored, "Correct it: without that filter, more would be sent than you mean."]})
    if found := doubts(query):
        raise InvalidError({"q": found})
    failed = await preview(api, query)
    if not failed.is_all:
        raise InvalidError({"q": [f"More than {MOST:,} notifications failed; narrow the filters, by time for example."]})
    async with api.runs.beginning:
        if api.runs.is_busy:
            raise ApiError(409, "Another run is under way in this process. Wait for its end, or cancel it.")
        work = _Work(api, who, failed.notifications)
        await work.tell()
        api.runs.begin(work)
    return work.seen()


async def cancel_run(api: Api, who: Asker, run_id: str) -> Run:
    """Ask a run to stop, in whichever process it is carried out; it does so before its next batch.

    Raises:
        ApiError: 404, there is no such run; 409, it is over; 503, Kafka or ClickHouse does not answer.
    """
    run = await find_run(api, run_id)
    if run is None:
        raise ApiError(404, "There is no such run.")
    if run.progress.state.is_over:
        raise ApiError(409, f"This run is over: {run.progress.state.value}.")
    asked = run.progress.model_copy(update={"state": RunState.CANCELLING})
    await put_on_record(api, who, AuditAction.RESEND_RUN, f"resend run {run_id}", asked.model_dump_json())
    if work := api.runs.get(run_id):
        work.is_cancelled = True
    return Run(run.id, run.started_by, run.started_at, run.heard_at, asked)


async def find_run(api: Api, run_id: str) -> Run | None:
    """A run of this process or of another."""
    if work := api.runs.get(run_id):
        return work.seen()
    async with searching(api):
        rows = await api.reports.resend_runs(run_id)
    return next(iter(_seen(rows, api.clock())), None)


async def last_runs(api: Api) -> list[Run]:
    """The last runs of all processes, the newest first."""
    async with searching(api):
        rows = await api.reports.resend_runs()
    own = {run.id: work.seen() for run in _seen(rows, api.clock()) if (work := api.runs.get(run.id))}
    return [own.get(run.id, run) for run in _seen(rows, api.clock())]


def _seen(rows: Sequence[RunRow], now: datetime) -> list[Run]:
    """Runs as the audit tells of them. One that is not over and has been silent for a minute has died with its process."""
    runs = []
    for row in rows:
        try:
            progress = ResendProgress.model_validate_json(row.detail)
        except ValidationError:
            log.warning("the progress of a run that resends cannot be read", run=row.id)
            continue
        if not progress.state.is_over and now - row.heard_at > _SILENT_AFTER:
            problem = (
                "Nothing has been heard of it for a minute: its process ended. What it had resent by then will be delivered."
            )
            progress = progress.model_copy(update={"state": RunState.STOPPED, "problem": problem})
        runs.append(Run(row.id, row.actor, row.started_at, row.heard_at, progress))
    return runs
