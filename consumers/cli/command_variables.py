"""Variables that are named like settings but are not settings."""

from __future__ import annotations

from typing import Final

NON_SETTING_VARIABLES: Final = (
    "OMS_WEBHOOKS_API_KEY",
    "OMS_WEBHOOKS_API_URL",
    "OMS_WEBHOOKS_ENDPOINT_SECRET",
    "OMS_WEBHOOKS_ENDPOINT_TOKEN",
    "OMS_WEBHOOKS_KAFKA_LIBS",
    "OMS_WEBHOOKS_RECEIVER_BASIC",
    "OMS_WEBHOOKS_RECEIVER_HEADER_KEY",
    "OMS_WEBHOOKS_RECEIVER_SECRET",
    "OMS_WEBHOOKS_VERSION",
)
"""Variables of commands, and the last one of deploy/compose.yaml. They are not settings."""
