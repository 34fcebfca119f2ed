"""The API keys that were made with the API or the command line, from the compacted topic ``webhooks.api-keys``.

The topic holds digests only. Every API process reads it to its end before it serves, and on; so a key that is revoked in one
process is gone in all of them as soon as they have read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from pipeline.broker.api import Broker, Record
from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.web.auth import digest, key_id
from pipeline.web.errors import StartingError
from schemas.api_key import Access, ApiKeyRecord
from schemas.codec import InvalidRecordError, from_json, to_json

log = logger(__name__)

FIRST_KEY_NAME: Final = "first admin key"
_PREFIX: Final = "omsw_"
_ACTOR: Final = "api-key:"
_USED: Final = "used:"
_PATIENCE_SECONDS: Final = 10.0
_TELL_AFTER: Final = timedelta(hours=1)
"""How old the last use that is on record may be before another is written: one record an hour for each key, however busy it is."""


def new_api_key() -> str:
    """Make a key: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


class KeyRing:
    """The keys. Used from the event loop only."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self.table = CompactedTable(broker, topic, self._apply)
        self._keys: dict[str, ApiKeyRecord] = {}
        self._used: dict[str, datetime] = {}
        """When each key was last used: what this process saw, and what others told."""
        self._told: dict[str, datetime] = {}
        """The last use of each key that is on record, or on its way there."""
        self._telling: set[asyncio.Task[None]] = set()

    def valid(self) -> list[ApiKeyRecord]:
        """The keys that were not revoked, the oldest first."""
        keys = (key for key in self._keys.values() if key.revoked_at is None)
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def opening(self) -> list[ApiKeyRecord]:
        """The valid keys, for whoever checks a key: before all of them have been read, none can be called wrong.

        Raises:
            StartingError: they have not been read yet.
        """
        if not self.table.is_caught_up:
            raise StartingError
        return self.valid()

    def get(self, identifier: str) -> ApiKeyRecord | None:
        """A key that was not revoked."""
        key = self._keys.get(identifier)
        return key if key is not None and key.revoked_at is None else None

    def person(self, actor: str) -> str:
        """Whoever is on record as ``api-key:<id>``, as people call them: the owner of the key, or the key's name, revoked or not."""
        if not actor.startswith(_ACTOR):
            return actor
        key = self._keys.get(actor.removeprefix(_ACTOR))
        return (key.owner or key.name) if key is not None else f"a key of the settings ({actor.removeprefix(_ACTOR)})"

    def last_used(self, identifier: str) -> datetime | None:
        """When a key was last used, as far as is known; what other processes saw in the last hour may not be."""
        return self._used.get(identifier)

    def note_use(self, producer: Producer, identifier: str, at: datetime) -> None:
        """A key opened something. Nobody waits for its record; where Kafka does not take it, a use an hour later tells it."""
        key = self.get(identifier)
        if key is None:
            return
        self._used[identifier] = max(at, self._used.get(identifier, at))
        told = self._told.get(identifier)
        if told is not None and at - told < _TELL_AFTER:
            return
        self._told[identifier] = at
        telling = asyncio.get_running_loop().create_task(self._tell_use(producer, key, at), name="last use of an API key")
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell_use(self, producer: Producer, key: ApiKeyRecord, at: datetime) -> None:
        """Write it beside the key's own record, which it must never overwrite: that may have been revoked meanwhile."""
        use = ApiKeyRecord(
            id=_USED + key.id,
            name=key.name,
            role=Access.VIEWER,
            sha256="0" * 64,
            created_at=key.created_at,
            created_by=key.created_by,
            revoked_at=key.created_at,
            last_used_at=at,
        )
        with contextlib.suppress(PublishError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await producer.send(self._topic, key=use.id.encode(), value=to_json(use))

    async def create(
        self, producer: Producer, *, name: str, role: Access, created_by: str, at: datetime, owner: str = ""
    ) -> tuple[ApiKeyRecord, str]:
        """Make a key: its record and the key itself, which is kept nowhere."""
        key, record = self._new(name, role, created_by, at)
        record = replace(record, owner=owner)
        await self._write(producer, record)
        return record, key

    async def create_first(self, producer: Producer, *, at: datetime) -> str | None:
        """Make an admin key if there is none: the key, which only its finder will ever see; None when there is one.

        Of several processes that start at once, each writes a key, and the one that stands first in the topic counts, in all of
        them. The others are taken back; nobody was told of them.
        """
        if self._has_admin():
            return None
        key, record = self._new(FIRST_KEY_NAME, Access.ADMIN, "first start", at)
        await self._write(producer, replace(record, is_first=True))
        if self.get(record.id) is not None:
            return key
        await self._send(producer, record.id, None)
        return None

    async def revoke(self, producer: Producer, record: ApiKeyRecord, *, revoked_by: str, at: datetime) -> None:
        """End a key. Its record stays, with who revoked it."""
        await self._write(producer, replace(record, revoked_at=at, revoked_by=revoked_by))

    def _new(self, name: str, role: Access, created_by: str, at: datetime) -> tuple[str, ApiKeyRecord]:
        while True:
            key = new_api_key()
            hashed = digest(key)
            if key_id(hashed) not in self._keys:  # 32 bits of it: rarely, another key's
                break
        return key, ApiKeyRecord(
            id=key_id(hashed), name=name, role=role, sha256=hashed.hex(), created_at=at, created_by=created_by
        )

    def _has_admin(self) -> bool:
        return any(key.role is Access.ADMIN for key in self.valid())

    async def _write(self, producer: Producer, record: ApiKeyRecord) -> None:
        await self._send(producer, record.id, to_json(record))

    async def _send(self, producer: Producer, identifier: str, value: bytes | None) -> None:
        position = await producer.send(self._topic, key=identifier.encode(), value=value)
        await self.table.wait_for(position.offset)

    def _apply(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.value is None:
                self._keys.pop((record.key or b"").decode("utf-8", "replace"), None)
                continue
            if (record.key or b"").startswith(_USED.encode()):
                self._apply_use(record)
                continue
            try:
                key = from_json(record.value, ApiKeyRecord)
            except InvalidRecordError as error:
                metrics.TABLE_ERRORS.inc()
                log.warning("an API key's record cannot be used", topic=self._topic, offset=record.offset, error=str(error))
                continue
            # The first start of two processes: every process reads the same order, and takes the same one.
            if key.is_first and key.revoked_at is None and key.id not in self._keys and self._has_admin():
                continue
            self._keys[key.id] = key

    def _apply_use(self, record: Record) -> None:
        """Another process, or this one, told that a key was used. If it cannot be read, nothing is lost: the next use says it again."""
        try:
            use = from_json(record.value or b"", ApiKeyRecord)
        except InvalidRecordError as error:
            log.debug("the last use of an API key cannot be read", offset=record.offset, error=str(error))
            return
        if use.last_used_at is None:
            return
        identifier = use.id.removeprefix(_USED)
        for known in (self._used, self._told):
            known[identifier] = max(use.last_used_at, known.get(identifier, use.last_used_at))
