"""The file that ``oms-webhooks endpoints export`` writes: JSON lines, first a header, then the record of each endpoint, by id.

Secrets are stored as in Kafka, encrypted with ``encryption_key``: the file alone opens none of them. A passphrase would be one
more secret to keep, and one that can be guessed.
"""

from __future__ import annotations

from typing import Final, Literal

from schemas.own_records import OwnRecord, Time

FORMAT: Final = "oms-webhooks endpoints"
MEDIA_TYPE: Final = "application/x-ndjson"


class BackupHeader(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The first line. A reader refuses another ``format_version``, and a file with another number of endpoints than
    ``endpoints``.
    """

    format: Literal["oms-webhooks endpoints"] = FORMAT
    format_version: Literal[1] = 1
    exported_at: Time
    endpoints: int
