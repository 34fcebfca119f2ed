"""The API keys that were made with the API or the command line, from the compacted topic ``webhooks.api-keys``.

The topic holds digests only. Every API process reads it to its end before it serves, and on; so a key that is revoked in one
process is gone in all of them as soon as they have read it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pipeline.broker.api import Broker, Record
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.web.auth import digest, key_id
from pipeline.web.errors import StartingError
from schemas.api_key import Access, ApiKeyRecord
from schemas.codec import InvalidRecordError, from_json

log = logger(__name__)

FIRST_KEY_NAME: Final = "first admin key"
_PREFIX: Final = "omsw_"


def new_api_key() -> str:
    """Make a key: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


class KeyRing:
    """The keys. Used from the event loop only."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self.table = CompactedTable(broker, topic, self._apply)
        self._keys: dict[str, ApiKeyRecord] = {}

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

    async def create(
        self, producer: Producer, *, name: str, role: Access, created_by: str, at: datetime
    ) -> tuple[ApiKeyRecord, str]:
        """Make a key: its record and the key itself, which is kept nowhere."""
        key, record = self._new(name, role, created_by, at)
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
        await self._write(producer, record.model_copy(update={"is_first": True}))
        if self.get(record.id) is not None:
            return key
        await self._send(producer, record.id, None)
        return None

    async def revoke(self, producer: Producer, record: ApiKeyRecord, *, revoked_by: str, at: datetime) -> None:
        """End a key. Its record stays, with who revoked it."""
        await self._write(producer, record.model_copy(update={"revoked_at": at, "revoked_by": revoked_by}))

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
        await self._send(producer, record.id, record.model_dump_json().encode())

    async def _send(self, producer: Producer, identifier: str, value: bytes | None) -> None:
        position = await producer.send(self._topic, key=identifier.encode(), value=value)
        await self.table.wait_for(position.offset)

    def _apply(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.value is None:
                self._keys.pop((record.key or b"").decode("utf-8", "replace"), None)
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
