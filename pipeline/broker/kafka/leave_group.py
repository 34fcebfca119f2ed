"""Leaves a group for good. Closing does not remove a static member, because it is expected back; after a clean stop it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from pipeline.broker.kafka.session import opening_session

_LEAVE_MS: Final = 2_000


def remove_static_member(config: Mapping[str, Any], group: str, instance_id: str) -> None:
    """Remove a static member from a group immediately. ``config``: that of any kafka-python client.

    Raises:
        NoSessionError: no broker answers.
        KafkaError: no broker did so in time.
    """
    shared = {name: config[name] for name in KafkaAdminClient.DEFAULT_CONFIG.keys() & config.keys()}
    with opening_session(shared | {"bootstrap_timeout_ms": _LEAVE_MS, "request_timeout_ms": _LEAVE_MS}) as met:
        admin = KafkaAdminClient(**met)
    with admin:
        admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance_id)])
