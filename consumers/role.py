"""The roles, and what each of them requires of the settings."""

from __future__ import annotations

import enum
from collections.abc import Collection

from pipeline.ops.settings import Settings


class Role(enum.StrEnum):
    """The task of a process."""

    FANOUT = "fanout"
    RETRY = "retry"
    RECORDER = "recorder"
    API = "api"


ALL_ROLES = frozenset(Role)
DELIVERING = frozenset({Role.FANOUT, Role.RETRY})
KNOWING_TYPES = frozenset({Role.FANOUT, Role.API})
"""They read events as producers write them. The other roles read only our own records."""


class RoleError(Exception):
    """A role cannot start; ``str(error)`` says what to do."""


def check_settings(settings: Settings, roles: Collection[Role]) -> None:
    """Check that the settings suffice for these roles.

    Raises:
        RoleError: they do not.
    """
    if not settings.kafka_bootstrap_servers:
        message = "No Kafka is configured; set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS, or run `oms-webhooks all`."
        raise RoleError(message)
    if settings.encryption_key is None and set(roles) != {Role.RECORDER}:
        message = "There is no key for endpoint secrets. Create one with `oms-webhooks new-key`, and set OMS_WEBHOOKS_ENCRYPTION_KEY in every role."
        raise RoleError(message)
    if len({Role.RECORDER, Role.API} & set(roles)) == 1 and not settings.has_lasting_store:
        message = (
            "No ClickHouse is configured. A temporary directory would be lost at exit, and the recorder and the API could not share it. Set "
            "OMS_WEBHOOKS_CLICKHOUSE_URL, or run `oms-webhooks all` with OMS_WEBHOOKS_CLICKHOUSE_PATH."
        )
        raise RoleError(message)
