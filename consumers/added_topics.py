"""Topics of event types that are added with the API: a running fan-out discovers and reads them.

The API creates the topic, then writes the event type. When a fan-out has read the event type, it understands the events in the
topic. Only then does it check whether the topic exists and may be read, and subscribe to it. A topic that cannot be read yet is
reported and checked again. It does not block the others: otherwise one API call could stop all deliveries.

A fan-out reads a topic for as long as Kafka has it, also after a restart, because it may still hold records. Events that are
published after their event type was removed become dead letters, like all unknown events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.broker.api import Broker, Position
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.producer import Producer
from pipeline.broker.readable_topics import ReadableTopics, check_topics
from pipeline.broker.topic_ids import TopicIds
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.ops import metrics
from pipeline.ops.clock import utc_now
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.topic_ids import TOPIC_IDS_KEY
from schemas.topics import Topics

log = logger(__name__)

_START_SECONDS: Final = 5.0
"""How long a start waits for topics that can be read. Slower ones are read a little later."""
_AGAIN_SECONDS: Final = 10.0
"""How often an unreadable topic is checked again; sooner at first, because a new topic may not be known to all brokers yet."""
_FIRST_AGAIN_SECONDS: Final = 1.0
_MAX_SHOWN: Final = 3


class AddedTopics:
    """Used from the event loop. ``read`` is called once for each topic, when it can be read."""

    def __init__(
        self,
        broker: Broker,
        producer: Producer,
        topics: Topics,
        catalogue: EventTypeCatalogue,
        topic_ids: TopicIds,
        read: Callable[[Sequence[str]], None],
    ) -> None:
        self._broker = broker
        self._producer = producer
        self._topics = topics
        self._catalogue = catalogue
        self._topic_ids = topic_ids
        self._on_readable = read
        self._reading: set[str] = set()
        self._given_up: set[str] = set()
        """Former topics that Kafka no longer has."""
        self._problems: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._trouble = FailureBackoff(log)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to read topics that can be read, and keep checking the others."""
        self._catalogue.follow(lambda _: self._changed.set())
        first = asyncio.create_task(self._check_topics())
        try:
            await asyncio.wait([first], timeout=_START_SECONDS)
        except asyncio.CancelledError:
            first.cancel()
            raise
        self._task = asyncio.create_task(self._follow(first))
        self._task.add_done_callback(_note_end)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def warning(self) -> str | None:
        """Which topics are not read, in words (for health checks)."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            return "This process no longer discovers new topics. Restart it; its log says what went wrong."
        if not self._problems:
            return None
        shown = " ".join(list(self._problems.values())[:_MAX_SHOWN])
        more = f" And {len(self._problems) - _MAX_SHOWN} more topics." if len(self._problems) > _MAX_SHOWN else ""
        return shown + more

    async def _follow(self, first: asyncio.Task[None]) -> None:
        try:
            await first
        finally:
            first.cancel()
        again = _FIRST_AGAIN_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), again if self._wanted() else None)
            again = min(2 * again, _AGAIN_SECONDS)
            if self._changed.is_set():
                again = _FIRST_AGAIN_SECONDS
                self._changed.clear()
                self._given_up.clear()
            await self._check_topics()

    def _wanted(self) -> list[str]:
        """The topics that are not read yet."""
        types = self._catalogue.types
        done = {*self._reading, *self._given_up, *self._topics.sources}
        named = (self._topics.prefix + topic for topic in (*types.more_topics, *types.former_topics))
        return [topic for topic in named if topic not in done]

    async def _check_topics(self) -> None:
        wanted = self._wanted()
        if not wanted:
            self._set_problems({})
            return
        try:
            found = await in_thread(lambda: check_topics(self._broker, wanted), "added topics")
        except Exception as error:  # noqa: BLE001 - whatever it is, subscribed topics are still read, and these are checked again
            self._trouble.note("topics of event types cannot be checked; they are checked again", error=repr(error))
            self._set_problems({topic: f"It is not known whether {topic} can be read: {error}" for topic in wanted})
            return
        self._trouble.over("topics of event types can be checked again")
        self._topic_ids.note_current(found.ids)
        recreated = frozenset(self._topic_ids.other_than_known(found.readable))
        self._set_problems(self._described(found, recreated))
        self._read([topic for topic in found.readable if topic not in recreated])

    def _read(self, topics: Sequence[str]) -> None:
        if not topics:
            return
        log.info("added topics of event types are read from now on", topics=topics)
        self._reading.update(topics)
        self._topic_ids.watch(topics)
        if (known := self._topic_ids.to_write(utc_now())) is not None:
            written = self._producer.send(self._topics.endpoint_health, key=TOPIC_IDS_KEY, value=to_json(known))
            written.add_done_callback(_note_failure)
        self._on_readable(topics)

    def _described(self, found: ReadableTopics, recreated: frozenset[str]) -> dict[str, str]:
        prefix = self._topics.prefix
        former = {prefix + topic for topic in self._catalogue.types.former_topics}
        problems = {topic: _refused(topic, topic.removeprefix(prefix), why) for topic, why in found.refused.items()}
        for topic in found.missing:
            if topic in former:  # its records are gone with the topic
                self._given_up.add(topic)
            else:
                problems[topic] = _missing(topic, topic.removeprefix(prefix))
        for topic in recreated:
            problems[topic] = (
                f"{topic} is another topic than before: it was deleted and created again. It is not read. To accept it, "
                f"run: oms-webhooks topics --accept-recreated {topic}."
            )
        return problems

    def _set_problems(self, problems: dict[str, str]) -> None:
        for topic, problem in problems.items():
            if topic not in self._problems:
                log.warning("the topic of an event type is not read", topic=topic, problem=problem)
        self._problems = problems
        metrics.UNREAD_TOPICS.set(len(problems))


def _missing(topic: str, bare: str) -> str:
    return (
        f"{topic} is not read: it does not exist, or this process may not see it. Create it with `oms-webhooks topics --create --event-topic {bare}`, "
        f"and grant the rights that `oms-webhooks grants --event-topic {bare}` prints."
    )


def _refused(topic: str, bare: str, why: str) -> str:
    return (
        f"{topic} is not read: {why.rstrip('.')}. If Kafka refuses it, grant the rights that "
        f"`oms-webhooks grants --role fanout --event-topic {bare}` prints."
    )


def _note_end(task: asyncio.Task[None]) -> None:
    """Only a bug ends the task."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("this process no longer discovers new topics of event types", exc_info=error)


def _note_failure(written: asyncio.Future[Position]) -> None:
    """The record only informs other processes, and is written again at the next start."""
    if not written.cancelled() and (error := written.exception()) is not None:
        log.warning("the ids of topics could not be written", error=str(error))
