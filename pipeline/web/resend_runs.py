"""Resends all failed notifications of a search in the background: at a limited rate, recorded, and safe to start again.

If the process dies, Kafka has acknowledged everything that was resent until then, and those attempts will be made. The progress of the run
is in the audit log (topic ``webhooks.audit``, table ``audit_log``): a record before the first resend, one before each resend, and one after
each batch. Every API process reads it there, so any of them can show or cancel a run. If you start the same search again, only the rest is
sent, because notifications that were delivered in the meantime are left out.

Two runs at once could send the same notifications twice, so there is one at a time in all processes. A start is refused while another run is
on record. If two processes start one in the same seconds, neither is on record yet. So a run sends nothing until its own start is on record.
Each looks again before each batch, and the later one stops. A run that has recorded nothing for a minute is taken for dead. The recorder may be
behind, so a run compares the last record of another one with its own, and not with the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import structs

from pipeline.broker.errors import PublishError
from pipeline.core.counted import counted
from pipeline.core.search import AttemptQuery
from pipeline.ops.logs import logger
from pipeline.store.reports.notification_history import FailedNotification, FailedNotifications, PastNotification
from pipeline.store.reports.recent import ReplayRow, RunRow
from pipeline.store.search.bodies import LARGE_BODY
from pipeline.web.audit import Actor
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.resending import Resender
from pipeline.web.search_errors import searching
from schemas.audit import AuditAction, ResendProgress, RunState
from schemas.codec import InvalidRecordError, from_json, to_json

log = logger(__name__)

MAX_RESENT: Final = 100_000
"""The most notifications that one run sends."""
_BATCH: Final = 50
_REMEMBERED: Final = 20
_LOOKS: Final = 10
_LONGEST_PAUSE: Final = 5.0
"""In seconds, between two looks for the start of a run."""
_NO_RUN: Final = (
    "This run was not found. If it was started in the last few seconds, look again before you start another one, which would send "
    "the same notifications."
)
_SILENT: Final = (
    "The run has not reported its progress for a minute: its process has ended, or the recorder is behind. Notifications that it has "
    "already resent will be delivered."
)
_RECORDER_BEHIND: Final = (
    "The recorder is more than {minutes:g} minutes behind or has stopped, so it is not known whether another run is in progress. Nothing "
    "was sent. Wait until the recorder has caught up."
)
_WAS_SILENT: Final = "This run could not report its progress for a minute. Other processes then assumed that it had ended, and may have started another run. So this run has stopped."
_SILENT_AFTER: Final = timedelta(seconds=60)
"""A run that has written no record for this long counts as dead."""
_RECENT: Final = timedelta(seconds=60)
"""A run that was started longer ago is on record, or the recorder is so far behind that waiting for seconds does not help. The clocks of two
processes differ by less.
"""
_SECONDS_DIGITS: Final = 8
_HEARD_EVERY: Final = timedelta(seconds=15)
"""If nothing has been recorded for this long, a run records its progress before it goes on."""


@dataclass(frozen=True, slots=True)
class ResendRun:
    """A run, as people see it. ``heard_at`` is when it last recorded its progress. ``is_silent``: that was long ago, so it is taken for
    dead. If the recorder is behind, it may go on.
    """

    id: str
    started_by: str
    started_at: datetime
    heard_at: datetime
    progress: ResendProgress
    is_silent: bool = False


class ResendRuns:
    """The runs of this process, and those of other processes, from the audit log. There is one at a time."""

    def __init__(self, resender: Resender, per_second: float = 50.0, record_seconds: float = 5.0) -> None:
        """``per_second`` is the maximum rate of resends. ``record_seconds``: how long a request waits until a start is on record."""
        self.resender = resender
        self.pause_seconds = 1 / per_second
        self.give_up_seconds = 300.0
        """A run sends nothing until its start is on record. If that takes longer than this, it ends."""
        self.look_seconds = record_seconds / _LOOKS
        self._beginning = asyncio.Lock()
        """Held from the check that no run is in progress until the new run has started."""
        self._known: OrderedDict[str, RunInProcess] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def preview(self, query: AttemptQuery) -> FailedNotifications:
        """What a run would send.

        Raises:
            ApiError: 422, the search takes too much; 503, ClickHouse does not answer.
        """
        async with searching(self.resender):
            return await self.resender.notifications.failed(query, MAX_RESENT)

    async def start(self, who: Actor, query: AttemptQuery) -> ResendRun:
        """Start to resend all failed notifications of a search, each once. Returns when the start is recorded.

        Raises:
            ApiError: 409, another run is in progress; 422, a filter has no effect, or there are too many notifications; 503.
        """
        if query.ignored:
            raise InvalidError({"q": [*query.ignored, "Correct it. Without this filter, more would be resent than you want."]})
        if found := resend_objections(query):
            raise InvalidError({"q": found})
        failed = await self.preview(query)
        if not failed.is_all:
            raise InvalidError(
                {"q": [f"More than {MAX_RESENT:,} notifications failed. Narrow the filters, for example by time."]}
            )
        async with self._beginning:
            await self._refuse_second()
            work = RunInProcess(self, who, failed.notifications)
            await work.record_progress()
            self.begin(work)
        return work.snapshot

    async def _refuse_second(self) -> None:
        # A run of this process may not be on record yet.
        is_here = self._task is not None and not self._task.done()
        for run in [next(reversed(self._known.values())).snapshot] if is_here else await self.last():
            if not run.progress.state.is_over:
                raise ApiError(409, f"{self.in_progress(run)} Nothing was sent. Wait until that run ends, or cancel it.")

    def in_progress(self, run: ResendRun) -> str:
        """Sentences that say who started a run, and how far it is."""
        progress = run.progress
        done = progress.resent + progress.delivered + progress.skipped
        return (
            f"Another run is in progress: {self.resender.audit.person(run.started_by)} started it at {run.started_at:%Y-%m-%d %H:%M} UTC "
            f"(id {run.id}), and it has processed {done:,} of {counted(progress.total, 'notification')}. Two runs at once could send the same "
            "notifications twice."
        )

    async def earlier_than(self, run_id: str) -> ResendRun | None:
        """A run that is in progress and was started before this one. None as long as this one is not on record."""
        rows = await self.on_record()
        own = next((row for row in rows if row.id == run_id), None)
        if own is None:
            return None
        # Both processes compare the same two rows, so only one of the two runs stops.
        earlier = [row for row in rows if (row.started_at, row.id) < (own.started_at, own.id)]
        # The recorder may be behind: what matters is whether they had recorded something shortly before this run did.
        return next((run for run in self._runs_of(earlier, own.heard_at) if not run.progress.state.is_over), None)

    def begin(self, work: RunInProcess) -> None:
        """Start the task of a run. No other run may be in progress."""
        self._known[work.snapshot.id] = work
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self._task = asyncio.create_task(work.carry_out(), name=f"run {work.snapshot.id}")

    async def stop(self) -> None:
        """Stop the current run. It records that, so Kafka must still be available."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def cancel(self, who: Actor, run_id: str) -> ResendRun:
        """Ask a run in any process to stop. It stops before its next batch.

        Raises:
            ApiError: 404, there is no such run; 409, it has ended; 503, Kafka or ClickHouse does not answer.
        """
        run = await self.find(run_id)
        if run.progress.state.is_over and not run.is_silent:
            raise ApiError(409, f"This run has ended: {run.progress.state.value}.")
        asked = replace(run, progress=structs.replace(run.progress, state=RunState.CANCELLING, problem=""), is_silent=False)
        await self.record_progress(who, asked)
        if work := self._known.get(run_id):
            work.is_cancelled = True
        return asked

    async def find(self, run_id: str) -> ResendRun:
        """A run of any process. Waits a while for a recent one that is not on record yet: the next request after its start may come here.

        Raises:
            ApiError: 404, there is no such run; 503, ClickHouse does not answer.
        """
        looks = _LOOKS if abs(self.resender.audit.clock() - _started_at(run_id)) < _RECENT else 1
        for look in range(looks):
            if work := self._known.get(run_id):
                return work.snapshot
            if found := await self.last(run_id):
                return found[0]
            if look < looks - 1:
                await asyncio.sleep(self.look_seconds)
        raise ApiError(404, _NO_RUN)

    async def last(self, run_id: str | None = None) -> list[ResendRun]:
        """The last runs of all processes, newest first, or only the one with this id."""
        return self._runs_of(await self.on_record(run_id), self.resender.audit.clock())

    def _runs_of(self, rows: Sequence[RunRow], now: datetime) -> list[ResendRun]:
        runs = []
        for run in map(_run_of_row, rows):
            if run is not None:
                work = self._known.get(run.id)
                runs.append(work.snapshot if work else _taken_for_dead(run) if now - run.heard_at > _SILENT_AFTER else run)
        return runs

    async def on_record(self, run_id: str | None = None) -> Sequence[RunRow]:
        """The runs in the audit log."""
        async with searching(self.resender):
            return await self.resender.reports.resend_runs(run_id)

    async def replays(self) -> Sequence[ReplayRow]:
        """The last replays. Each is driven by the command that started it, which records every step."""
        async with searching(self.resender):
            return await self.resender.reports.replays()

    async def record_progress(self, who: Actor, run: ResendRun) -> None:
        """Record the progress of a run."""
        await self.resender.audit.put(who, AuditAction.RESEND_RUN, f"resend run {run.id}", to_json(run.progress).decode())


class RunInProcess:
    """One run in this process."""

    def __init__(self, runs: ResendRuns, who: Actor, notifications: Sequence[FailedNotification]) -> None:
        now, progress = runs.resender.audit.clock(), ResendProgress(state=RunState.RUNNING, total=len(notifications))
        self.snapshot = ResendRun(new_run_id(now), who.actor, now, now, progress)
        """As people see it."""
        self.is_cancelled = False
        """Whether somebody asked it to stop."""
        self._runs = runs
        self._resender = runs.resender
        self._who = who
        self._notifications = notifications

    async def record_progress(self, **changes: object) -> None:
        """Record its progress."""
        self._change(**changes)
        self.snapshot = replace(self.snapshot, heard_at=self._resender.audit.clock())
        await self._runs.record_progress(self._who, self.snapshot)

    async def carry_out(self) -> None:
        """Send all batches, unless the run is canceled, fails, or is not the first. Raises only CancelledError."""
        try:
            if not await self._is_known_to_others():
                minutes = self._runs.give_up_seconds / 60
                await self.record_progress(state=RunState.STOPPED, problem=_RECORDER_BEHIND.format(minutes=minutes))
                return
            for first in range(0, len(self._notifications), _BATCH):
                if await self._is_cancelled():
                    await self.record_progress(state=RunState.CANCELLED)
                    return
                await self._stay_heard()
                if earlier := await self._runs.earlier_than(self.snapshot.id):
                    problem = f"{self._runs.in_progress(earlier)} So this run has stopped."
                    await self.record_progress(state=RunState.STOPPED, problem=problem)
                    return
                await self._stay_heard()
                await self._send(self._notifications[first : first + _BATCH])
                await self.record_progress()
            await self.record_progress(state=RunState.DONE)
        except asyncio.CancelledError:
            await self._end(RunState.STOPPED, "The process that ran it was stopped.")
            raise
        except (ApiError, PublishError) as error:
            await self._end(RunState.FAILED, str(error))
        except Exception:
            log.exception("a resend run failed", run=self.snapshot.id)
            await self._end(RunState.FAILED, "Something went wrong on our side. See the log of the API.")

    async def _is_known_to_others(self) -> bool:
        """Wait until the start is on record. False: that takes too long, so another run may be in progress.

        A run that is to stop is not waited for.
        """
        loop, pause = asyncio.get_running_loop(), self._runs.look_seconds
        deadline = loop.time() + self._runs.give_up_seconds
        while not (self.is_cancelled or await self._runs.on_record(self.snapshot.id)):
            if loop.time() >= deadline:
                return False
            await self._stay_heard()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    async def _stay_heard(self) -> None:
        """Record the progress, unless it was recorded a moment ago. A run that stays silent is considered dead, and another one may start.

        Raises:
            ApiError: 503, it has been silent for so long that this may have happened; or the progress cannot be recorded.
        """
        silence = self._resender.audit.clock() - self.snapshot.heard_at
        if silence > _SILENT_AFTER:
            raise ApiError(503, _WAS_SILENT)
        if silence > _HEARD_EVERY:
            await self.record_progress()

    async def _is_cancelled(self) -> bool:
        self.is_cancelled = self.is_cancelled or any(row.is_cancelled for row in await self._runs.on_record(self.snapshot.id))
        return self.is_cancelled

    async def _send(self, batch: Sequence[FailedNotification]) -> None:
        found = await self._read(batch, LARGE_BODY)
        for one in batch:
            await self._stay_heard()
            notification = found.get(one.attempt_id)
            if notification is None and one.attempt_id in found:  # its body is large; what is not in ``found`` is gone
                notification = (await self._read([one])).get(one.attempt_id)
            what = await self._sent(notification)
            self._change(**{what: getattr(self.snapshot.progress, what) + 1}, last_attempt_id=one.attempt_id)
            if what == "resent":
                await asyncio.sleep(self._runs.pause_seconds)

    async def _read(
        self, batch: Sequence[FailedNotification], most_bytes: int | None = None
    ) -> dict[int, PastNotification | None]:
        ids, made = [one.attempt_id for one in batch], [one.failed_at for one in batch]
        async with searching(self._resender):
            return await self._resender.notifications.of_attempts(ids, made, most_bytes)

    async def _sent(self, one: PastNotification | None) -> str:
        """Resend one notification. Returns the counter of :class:`ResendProgress` that counts it."""
        if one is None:
            return "skipped"
        if one.is_delivered:
            return "delivered"
        try:
            await self._resender.notification(self._who, one, run=self.snapshot.id)
        except ApiError as error:
            if error.status != 409:
                raise
            return "skipped"
        return "resent"

    def _change(self, **changes: object) -> None:
        self.snapshot = replace(self.snapshot, progress=structs.replace(self.snapshot.progress, **changes))

    async def _end(self, state: RunState, problem: str) -> None:
        try:
            await self.record_progress(state=state, problem=problem)
        except (ApiError, PublishError) as error:
            log.warning("the end of a resend run could not be recorded", run=self.snapshot.id, error=str(error))


def new_run_id(now: datetime) -> str:
    """The id of a run that starts now: 16 hex digits. The first 8 are the time: it tells whether a run that is not on record may be recent."""
    return f"{int(now.timestamp()):0{_SECONDS_DIGITS}x}{secrets.token_hex(4)}"


def _started_at(run_id: str) -> datetime:
    """When the run with this id was started. The ids of earlier builds are random, and so is this time."""
    return datetime.fromtimestamp(int(run_id[:_SECONDS_DIGITS], 16), UTC)


def resend_objections(query: AttemptQuery) -> list[str]:
    """Why a search is refused for a resend: it might send more than is intended."""
    found = [
        f"{one} has no value. Give it a value, or leave it out. Without a value, more would be resent than you want."
        for one in query.blank
    ]
    if not query.conditions:
        found.append("Add a filter, such as an endpoint, a time range or an order number.")
    return found


def _run_of_row(row: RunRow) -> ResendRun | None:
    """A run, from its row in the audit log."""
    try:
        progress = from_json(row.detail.encode(), ResendProgress)
    except InvalidRecordError:
        log.warning("the progress of a resend run cannot be read", run=row.id)
        return None
    return ResendRun(row.id, row.actor, row.started_at, row.heard_at, progress)


def _taken_for_dead(run: ResendRun) -> ResendRun:
    """A run that has not ended but has been silent for a minute: its process has probably died."""
    if run.progress.state.is_over:
        return run
    return replace(run, progress=structs.replace(run.progress, state=RunState.STOPPED, problem=_SILENT), is_silent=True)
