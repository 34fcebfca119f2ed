"""The API keys that were created with the API or the command line, from the compacted topic ``webhooks.api-keys``.

The topic holds digests only. Every API process reads it to its end before it serves, and keeps reading, so a key that is revoked in
one process soon stops working in all of them.
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
_REPORT_AFTER: Final = timedelta(hours=1)
"""The last use of a key is written at most once an hour, however busy the key is."""


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
        """When each key was last used, as seen by this process or reported by others."""
        self._reported: dict[str, datetime] = {}
        """The last use of each key that was written, or is being written."""
        self._reporting: set[asyncio.Task[None]] = set()

    def valid(self) -> list[ApiKeyRecord]:
        """The keys that were not revoked, oldest first."""
        keys = (key for key in self._keys.values() if key.revoked_at is None)
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def opening(self) -> list[ApiKeyRecord]:
        """The valid keys, for checking a key.

        Raises:
            StartingError: not all keys have been read, so a valid key might seem wrong.
        """
        if not self.table.is_caught_up:
            raise StartingError
        return self.valid()

    def get(self, identifier: str) -> ApiKeyRecord | None:
        """A key that was not revoked."""
        key = self._keys.get(identifier)
        return key if key is not None and key.revoked_at is None else None

    def person(self, actor: str) -> str:
        """The name of the actor ``api-key:<id>``: the owner of the key, or else the key's name. Revoked keys are known too."""
        if not actor.startswith(_ACTOR):
            return actor
        key = self._keys.get(actor.removeprefix(_ACTOR))
        return (key.owner or key.name) if key is not None else f"a key in the settings ({actor.removeprefix(_ACTOR)})"

    def last_used(self, identifier: str) -> datetime | None:
        """When a key was last used. Uses in other processes in the last hour may be missing."""
        return self._used.get(identifier)

    def note_use(self, producer: Producer, identifier: str, at: datetime) -> None:
        """Note that a key was used. The record is written in the background. If that fails, the next one follows after an hour."""
        key = self.get(identifier)
        if key is None:
            return
        self._used[identifier] = max(at, self._used.get(identifier, at))
        reported = self._reported.get(identifier)
        if reported is not None and at - reported < _REPORT_AFTER:
            return
        self._reported[identifier] = at
        reporting = asyncio.get_running_loop().create_task(self._report_use(producer, key, at), name="last use of an API key")
        self._reporting.add(reporting)
        reporting.add_done_callback(self._reporting.discard)

    async def _report_use(self, producer: Producer, key: ApiKeyRecord, at: datetime) -> None:
        """Write it as a separate record. Overwriting the key's record could undo a revocation by another process."""
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
        """Create a key. Returns its record and the key itself, which is not stored."""
        key, record = self._new(name, role, created_by, at)
        record = replace(record, owner=owner)
        await self._write(producer, record)
        return record, key

    async def create_first(self, producer: Producer, *, at: datetime) -> str | None:
        """Create an admin key if there is none. Returns the key, or None if there is one already.

        If several processes start at once, each writes a key. The first one in the topic counts, in all processes. The others
        are deleted before anyone sees them.
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
        """Revoke a key. Its record stays, and says who revoked it."""
        await self._write(producer, replace(record, revoked_at=at, revoked_by=revoked_by))

    def _new(self, name: str, role: Access, created_by: str, at: datetime) -> tuple[str, ApiKeyRecord]:
        while True:
            key = new_api_key()
            hashed = digest(key)
            if key_id(hashed) not in self._keys:  # an id has only 32 bits, so it may be taken
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
            # Two processes started for the first time. All processes read the same order, so they accept the same key.
            if key.is_first and key.revoked_at is None and key.id not in self._keys and self._has_admin():
                continue
            self._keys[key.id] = key

    def _apply_use(self, record: Record) -> None:
        """Read a record of a key's last use. If it is unreadable, nothing is lost: another follows."""
        try:
            use = from_json(record.value or b"", ApiKeyRecord)
        except InvalidRecordError as error:
            log.debug("the last use of an API key cannot be read", offset=record.offset, error=str(error))
            return
        if use.last_used_at is None:
            return
        identifier = use.id.removeprefix(_USED)
        for known in (self._used, self._reported):
            known[identifier] = max(use.last_used_at, known.get(identifier, use.last_used_at))
