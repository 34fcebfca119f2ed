"""The dashboard's sessions that were logged out, from the topic ``webhooks.ended-sessions``. Copies of their cookies are refused.

A cookie contains its session, so the server only has to remember sessions that ended early, until they would have expired. The
topic keeps them longer than that. Every API process reads it to its end before it accepts a session, and keeps reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pipeline.broker.api import Broker, Record
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from pipeline.web.errors import StartingError
from schemas.codec import InvalidRecordError, from_json, to_json
from schemas.ended_session import EndedSession

log = logger(__name__)

SESSION_TIME: Final = timedelta(hours=12)
"""A working day. After that, the user has to log in again."""
MAX_PER_KEY: Final = 1000
"""The most ended sessions of one API key to remember individually. If there are more, all sessions of the key up to the last of
them count as ended, so that endless logins and logouts do not fill the memory."""
_CLEAN_EVERY: Final = timedelta(minutes=10)


class EndedSessions:
    """Which sessions have ended. Used from the event loop only."""

    def __init__(self, broker: Broker, topic: str, clock: Clock) -> None:
        self._topic = topic
        self._clock = clock
        self.table = CompactedTable(broker, topic, self._apply)
        self._ended: dict[str, dict[str, datetime]] = {}
        """By API key: the ids of sessions, and when each would have expired."""
        self._all_until: dict[str, datetime] = {}
        """By API key: all sessions that would expire by this time have ended."""
        self._next_cleaning = clock() + _CLEAN_EVERY

    def has(self, session_id: str, key_id: str, until: datetime) -> bool:
        """Whether a session that expires at ``until`` has been ended.

        Raises:
            StartingError: the ended sessions have not been read yet.
        """
        if not self.table.is_caught_up:
            raise StartingError
        everything = self._all_until.get(key_id)
        return session_id in self._ended.get(key_id, ()) or (everything is not None and until <= everything)

    async def end(self, producer: Producer, session_id: str, key_id: str, until: datetime) -> None:
        """End a session: here at once, elsewhere when the record has been read. Returns when this process has read it back."""
        self._note(session_id, key_id, until)
        record = EndedSession(key_id=key_id, until=until, ended_at=self._clock())
        position = await producer.send(self._topic, key=session_id.encode(), value=to_json(record))
        await self.table.wait_for(position.offset)

    def _note(self, session_id: str, key_id: str, until: datetime) -> None:
        of_key = self._ended.setdefault(key_id, {})
        of_key[session_id] = until
        if len(of_key) > MAX_PER_KEY:
            last = self._all_until.get(key_id, until)
            self._all_until[key_id] = max(last, *of_key.values())
            del self._ended[key_id]

    def _apply(self, records: Iterable[Record]) -> None:
        now = self._clock()
        for record in records:
            session_id = (record.key or b"").decode("utf-8", "replace")
            try:
                ended = from_json(record.value or b"", EndedSession)
            except InvalidRecordError as error:
                metrics.TABLE_ERRORS.inc()
                log.warning("an ended session's record cannot be used", topic=self._topic, offset=record.offset, error=str(error))
                continue
            # Ignore implausible times: no session lasts longer than this.
            if now < ended.until <= now + 2 * SESSION_TIME:
                self._note(session_id, ended.key_id, ended.until)
        if now >= self._next_cleaning:
            self._clean(now)

    def _clean(self, now: datetime) -> None:
        """Forget sessions that would have expired by now."""
        self._next_cleaning = now + _CLEAN_EVERY
        left = {key_id: {one: until for one, until in ended.items() if until > now} for key_id, ended in self._ended.items()}
        self._ended = {key_id: ended for key_id, ended in left.items() if ended}
        self._all_until = {key_id: until for key_id, until in self._all_until.items() if until > now}
