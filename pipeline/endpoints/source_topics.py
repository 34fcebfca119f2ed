"""Topics of event types that are added at run time: the API creates missing topics, or says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pipeline.broker.api import Broker
from pipeline.broker.errors import BrokerError, TopicError
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger
from schemas.topics import TopicSpec, added_source

log = logger(__name__)

_LONGEST_NAME: Final = 249
"""Kafka's limit."""
_SECONDS: Final = 20.0
_MAX_SHOWN: Final = 4


class SourceTopics:
    """Used from the event loop."""

    def __init__(self, broker: Broker, prefix: str = "", seconds: float = _SECONDS) -> None:
        """``seconds``: how long Kafka may take to create a topic."""
        self._broker = broker
        self._prefix = prefix
        self._seconds = seconds

    def name_problem(self, topic: str) -> str | None:
        """Why a topic cannot have this name after the prefix."""
        if len(self._prefix + topic) <= _LONGEST_NAME:
            return None
        return f"With the prefix {self._prefix}, the name exceeds Kafka's {_LONGEST_NAME} characters; choose a shorter one."

    async def provide(self, topic: str, *, is_read: bool) -> Sequence[str]:
        """Make sure that a topic exists. Returns remarks about it for the user. ``topic``: without the prefix.

        ``is_read``: fan-outs read it already.

        Raises:
            TopicError: it does not exist, and this process cannot create it; says what to do.
            UnavailableError: Kafka does not answer.
            TimeoutError: it takes too long.
        """
        spec = added_source(self._prefix + topic)
        async with asyncio.timeout(self._seconds):
            is_new, differences = await in_thread(lambda: self._provide(spec, topic), "source topic")
        if is_new:
            log.info("created the topic of an event type", topic=spec.name)
            created = f"The topic {spec.name} was created."
            advice = f" Fan-outs read an earlier topic of this name: run `oms-webhooks topics --accept-recreated {spec.name}`."
            return (created + advice if is_read else created,)
        unexpected = [
            f"The topic {spec.name} has an unexpected setting: {difference}." for difference in differences[:_MAX_SHOWN]
        ]
        if is_read:
            return unexpected
        return (
            f"The topic {spec.name} existed already. It is read from its beginning; "
            "records that are not events of this type become dead letters.",
            *unexpected,
        )

    def _provide(self, spec: TopicSpec, topic: str) -> tuple[bool, Sequence[str]]:
        with self._broker.admin(self._seconds) as admin:
            try:
                if admin.create_missing([spec]):
                    return True, ()
            except TopicError as error:
                if not error.needs_operator:
                    raise
                raise TopicError(_cannot_be_made(spec.name, topic, error)) from error
            with suppress(BrokerError):  # skip the comparison without the permission to see topic settings
                return False, [f"{one.what} is {one.found}, wanted {one.wanted}" for one in admin.differences([spec])]
        return False, ()


def _cannot_be_made(name: str, topic: str, error: TopicError) -> str:
    return (
        f"This process cannot see the topic {name}, and may not create it. Have it created with "
        f"`oms-webhooks topics --create --event-topic {topic}`, grant the roles their permissions for it "
        f"(`oms-webhooks grants --event-topic {topic}` prints the commands), and try again. Kafka says: {error}"
    )
