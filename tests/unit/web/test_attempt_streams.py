"""Live attempts: listeners get each attempt once, equal searches share a poll, and everything is bounded."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from pipeline.core.search import AttemptQuery, Condition, Predicate, Sort
from pipeline.store.search.queries import AttemptPage, AttemptRow
from pipeline.web.attempt_streams import AttemptStreams, StreamMessage
from pipeline.web.errors import ApiError
from tests.unit.virtual_time import in_virtual_time
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW
from tests.waiting import until

FAILED = AttemptQuery(conditions=(Condition("state", Predicate.EQ, ("failed",)),))
WITH_BODY = AttemptQuery(conditions=(Condition("request_body", Predicate.CONT, ("ada",)),))


class Store:
    """Answers searches and records them."""

    def __init__(self) -> None:
        self.rows: list[AttemptRow] = []
        self.looks: list[AttemptQuery] = []
        self.error: Exception | None = None

    async def look(self, query: AttemptQuery) -> AttemptPage:
        self.looks.append(query)
        if self.error:
            raise self.error
        found, cursor = tuple(self.rows[::-1][: query.per_page]), "next" if len(self.rows) > query.per_page else None
        return AttemptPage(found, len(self.rows), 1, query.per_page, next_cursor=cursor)


async def next_message(listener: asyncio.Queue[StreamMessage]) -> StreamMessage:
    async with asyncio.timeout(60):
        return await listener.get()


@pytest.fixture
def store() -> Store:
    return Store()


@in_virtual_time()
async def test_each_attempt_is_sent_once_oldest_first(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=1.0)
    store.rows = [attempt_row(id=1, created_at=NOW), attempt_row(id=2, created_at=NOW)]
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        assert [row.id for row in (await next_message(listener)).attempts] == [1, 2]
        # Recorded late: it was made before those that were already sent.
        store.rows.insert(0, attempt_row(id=3, created_at=NOW - timedelta(seconds=5)))
        assert [row.id for row in (await next_message(listener)).attempts] == [3]
    assert streams.listeners == 0
    count = len(store.looks)
    await asyncio.sleep(60)
    assert len(store.looks) == count, "nobody listens, so nothing is polled"
    [state, since] = store.looks[0].conditions
    assert (state, since) == (FAILED.conditions[0], Condition("created_at", Predicate.GTEQ, (NOW - timedelta(seconds=10),)))


async def test_a_slow_attempt_is_found_among_many_fast_ones(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    store.rows = [attempt_row(id=number, created_at=NOW) for number in range(1, 151)]
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        assert len((await next_message(listener)).attempts) == 150
        # It timed out, and was recorded 15 s after it began.
        slow = attempt_row(id=999, created_at=NOW - timedelta(seconds=15))
        store.rows = [slow, *store.rows, *(attempt_row(id=number, created_at=NOW) for number in range(151, 301))]
        assert [row.id for row in (await next_message(listener)).attempts] == [999, *range(151, 301)]


@pytest.mark.parametrize(
    ("query", "count", "sentence"),
    [
        (
            FAILED,
            1_500,
            "1,300 more attempts were recorded at the same time and are not shown. Narrow your search to see all of them.",
        ),
        (
            FAILED,
            2_500,
            "At least 1,800 more attempts were recorded at the same time and are not shown. Narrow your search to see all of them.",
        ),
        (WITH_BODY, 450, "More attempts were recorded than are shown. Narrow your search to see all of them."),
    ],
)
async def test_attempts_left_out_are_reported(store: Store, query: AttemptQuery, count: int, sentence: str) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    store.rows = [attempt_row(id=number, created_at=NOW) for number in range(1, count + 1)]
    async with streams.listen(query, store.look, lambda: NOW) as listener:
        assert [row.id for row in (await next_message(listener)).attempts] == list(range(count - 199, count + 1))
        assert (await next_message(listener)).problem == sentence
        store.rows.append(attempt_row(id=9_999, created_at=NOW))
        assert [row.id for row in (await next_message(listener)).attempts] == [9_999]
        assert listener.empty(), "a page that is full again starts with attempts already sent"


async def test_a_full_message_leaves_nothing_out(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    store.rows = [attempt_row(id=number, created_at=NOW) for number in range(1, 201)]
    async with streams.listen(WITH_BODY, store.look, lambda: NOW) as listener:
        assert len((await next_message(listener)).attempts) == 200
        assert listener.empty()


@in_virtual_time()
async def test_equal_searches_share_a_poll_whatever_their_order_and_page(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=3600)
    other = AttemptQuery(conditions=FAILED.conditions, sorts=(Sort("duration_ms"),), page=3, ignored=("x",))
    async with streams.listen(FAILED, store.look, lambda: NOW), streams.listen(other, store.look, lambda: NOW):
        await asyncio.sleep(60)
        assert (len(store.looks), streams.listeners) == (1, 2)
        async with streams.listen(AttemptQuery(), store.look, lambda: NOW):
            await asyncio.sleep(60)
            assert len(store.looks) == 2


@pytest.mark.parametrize("predicate", [Predicate.GT, Predicate.GTEQ])
@in_virtual_time()
async def test_searches_that_differ_only_in_their_start_time_share_a_poll(store: Store, predicate: Predicate) -> None:
    streams = AttemptStreams(poll_seconds=3600)

    def since(hours: float, how: Predicate = predicate) -> AttemptQuery:
        return AttemptQuery(conditions=(*FAILED.conditions, Condition("created_at", how, (NOW - timedelta(hours=hours),))))

    async with (
        streams.listen(FAILED, store.look, lambda: NOW),
        streams.listen(since(24), store.look, lambda: NOW),
        streams.listen(since(0.5), store.look, lambda: NOW),
    ):
        await asyncio.sleep(60)
        assert (len(store.looks), streams.listeners) == (1, 3)
        for other in (since(-1), since(0), since(24, Predicate.LT)):  # these exclude attempts
            looks = len(store.looks)
            async with streams.listen(other, store.look, lambda: NOW):
                await asyncio.sleep(60)
                assert len(store.looks) == looks + 1


async def test_a_later_listener_gets_the_last_seconds(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=3600)
    store.rows = [attempt_row(id=1, created_at=NOW - timedelta(minutes=1)), attempt_row(id=2, created_at=NOW)]
    async with streams.listen(FAILED, store.look, lambda: NOW) as first:
        assert len((await next_message(first)).attempts) == 2
        async with streams.listen(FAILED, store.look, lambda: NOW) as second:
            assert [row.id for row in (await next_message(second)).attempts] == [2]


async def test_a_late_listener_of_a_busy_search_learns_from_when_its_attempts_are_complete(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    times = {number: NOW - timedelta(milliseconds=10 * (251 - number)) for number in range(1, 251)}
    store.rows = [attempt_row(id=number, created_at=at) for number, at in times.items()]
    async with streams.listen(FAILED, store.look, lambda: NOW) as first:
        assert first.since == NOW - timedelta(seconds=10)
        assert len((await next_message(first)).attempts) == 200
        assert (await next_message(first)).problem.startswith("50 more")
        store.rows.insert(0, attempt_row(id=999, created_at=NOW - timedelta(seconds=9)))  # recorded late
        assert [row.id for row in (await next_message(first)).attempts] == [999]
        async with streams.listen(FAILED, store.look, lambda: NOW) as second:
            assert second.since == times[51] + timedelta(milliseconds=1)
            assert [row.id for row in (await next_message(second)).attempts] == list(range(52, 251))


async def test_a_late_listener_is_not_promised_attempts_that_a_full_page_left_out(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=3600)
    times = {number: NOW - timedelta(milliseconds=10 * (251 - number)) for number in range(1, 251)}
    store.rows = [attempt_row(id=number, created_at=at) for number, at in times.items()]
    async with streams.listen(WITH_BODY, store.look, lambda: NOW) as first:
        assert len((await next_message(first)).attempts) == 200
        async with streams.listen(WITH_BODY, store.look, lambda: NOW) as second:
            assert second.since == times[51] + timedelta(milliseconds=1)


async def test_listeners_and_searches_are_bounded(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=3600, most_listeners=2, most_searches=1)
    async with streams.listen(FAILED, store.look, lambda: NOW):
        with pytest.raises(ApiError, match="Too many different searches"):
            async with streams.listen(AttemptQuery(), store.look, lambda: NOW):
                pass
        async with streams.listen(FAILED, store.look, lambda: NOW):
            with pytest.raises(ApiError, match="Too many people") as raised:
                async with streams.listen(FAILED, store.look, lambda: NOW):
                    pass
            assert raised.value.headers == {"Retry-After": "30"}


async def test_a_listener_that_does_not_read_loses_the_oldest_messages(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=0.0001)
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        async with asyncio.timeout(60):
            while len(store.looks) < 60:
                store.rows = [attempt_row(id=len(store.looks), created_at=NOW)]
                await asyncio.sleep(0)
        assert listener.qsize() <= 20


@pytest.mark.parametrize(
    ("error", "sentence"), [(ApiError(503, "ClickHouse is away."), "ClickHouse is away."), (OSError("x"), "See the log")]
)
async def test_errors_are_reported_and_polling_continues(store: Store, error: Exception, sentence: str) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    store.error = error
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        assert sentence in (await next_message(listener)).problem
        store.error, store.rows = None, [attempt_row(id=1, created_at=NOW)]
        while not (news := await next_message(listener)).attempts:
            assert news.problem


@pytest.mark.parametrize(("seconds", "missed"), [(50, None), (300, (NOW - timedelta(seconds=5), NOW + timedelta(seconds=240)))])
async def test_attempts_made_during_a_long_outage_are_reported_as_missed(
    store: Store, seconds: float, missed: tuple[datetime, datetime] | None
) -> None:
    """A poll reads only the last minute."""
    streams, now = AttemptStreams(poll_seconds=0.001), [NOW]
    async with streams.listen(FAILED, store.look, lambda: now[0]) as listener:
        assert listener.read_until == listener.since
        await until(lambda: listener.read_until == NOW - timedelta(seconds=5))
        store.error = ApiError(503, "ClickHouse is away.")
        assert (await next_message(listener)).problem
        now[0] = NOW + timedelta(seconds=seconds)
        assert (await next_message(listener)).problem
        assert listener.read_until == NOW - timedelta(seconds=5)
        row = attempt_row(id=1, created_at=now[0])
        store.error, store.rows = None, [row]
        while (news := await next_message(listener)).problem:
            pass
        assert news == StreamMessage((row,), missed=missed)
        assert listener.read_until == now[0] - timedelta(seconds=5)


async def test_the_end_of_a_problem_is_reported_even_without_new_attempts(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=0.001)
    store.error = ApiError(503, "ClickHouse is away.")
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        assert (await next_message(listener)).problem
        store.error = None
        while (news := await next_message(listener)).problem:
            pass
        assert news == StreamMessage()
        store.rows = [attempt_row(id=1, created_at=NOW)]
        assert [row.id for row in (await next_message(listener)).attempts] == [1], "the recovery is reported once"


async def test_stopping_notifies_listeners_at_once(store: Store) -> None:
    streams = AttemptStreams(poll_seconds=3600)
    async with streams.listen(FAILED, store.look, lambda: NOW) as listener:
        await streams.stop()
        assert (await next_message(listener)).is_over
        with pytest.raises(ApiError):
            async with streams.listen(FAILED, store.look, lambda: NOW):
                pass
