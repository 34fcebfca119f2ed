"""Events as the pipeline wants them: the envelope, and for which topic and key."""

import json
import os
import uuid
from datetime import UTC, datetime

PREFIX = os.environ.get("KAFKA_TOPIC_PREFIX", "")


def make_event(event_name: str, data: dict, *, subscription_id: str | None = None) -> dict:
    """An event that has just happened. Make it once: whoever publishes it again keeps its id."""
    event = {
        "id": str(uuid.uuid4()),
        "event_name": event_name,
        "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        # The guest token gives access to the order: no receiver gets it, and it has no business in Kafka.
        "data": {name: value for name, value in data.items() if name != "token"},
    }
    if subscription_id is not None:
        event["references"] = {"subscription_id": subscription_id}
    return event


def topic_and_key(event: dict) -> tuple[str, str]:
    """The key keeps what is about one order, or about one stock item, in its order."""
    data = event["data"]
    match event["event_name"].partition("_")[0]:
        case "order":
            return f"{PREFIX}oms.orders", data["number"]
        case "shipment":
            return f"{PREFIX}oms.shipments", data["order_id"]
        case "stock":
            return f"{PREFIX}oms.stock-items", str(data["id"])
    raise ValueError(f"unknown event: {event['event_name']}")


def to_json(event: dict) -> str:
    """The value of the record. default=str writes decimals as strings, which is what money must be."""
    return json.dumps(event, ensure_ascii=False, default=str)
