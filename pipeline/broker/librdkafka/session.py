"""Opens sessions with Kafka, and explains failures. librdkafka itself connects in the background, and keeps trying."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from pipeline.broker.errors import NoSessionError
from pipeline.broker.kafka.bootstrap import reach_brokers
from pipeline.broker.kafka.config import client_config as plain_config
from pipeline.broker.kafka.oauth import TokenError, token_provider
from pipeline.broker.librdkafka.errors import AUTHENTICATION_FAILED
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_SESSION_S: Final = 6.0
"""How long librdkafka may try. A broker has answered just before."""
_LOGIN: Final = "OMS_WEBHOOKS_KAFKA_SASL_USERNAME, OMS_WEBHOOKS_KAFKA_SASL_PASSWORD and OMS_WEBHOOKS_KAFKA_SASL_MECHANISM"
_PROTOCOL: Final = "Check OMS_WEBHOOKS_KAFKA_SECURITY_PROTOCOL and the port"


def require_brokers(settings: Settings) -> None:
    """Return when a broker has answered and, if a token is needed, there is one.

    Raises:
        NoSessionError: no broker has answered, or there is no token.
    """
    reach_brokers(plain_config(settings))
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_mechanism == "OAUTHBEARER":
        try:
            token_provider(settings).token()
        except TokenError as error:
            text = f"Could not open a session with Kafka at {settings.kafka_bootstrap_servers}. There is no token: {error}."
            raise NoSessionError(text) from error


def open_session(client: Consumer | Producer, settings: Settings, errors: Sequence[KafkaError]) -> None:
    """Return when a broker has accepted the client. ``errors`` are the errors that its ``error_cb`` received.

    Raises:
        NoSessionError: none did; the message says why.
    """
    try:
        # Only waiting could take a second longer: librdkafka connects when something is requested, or by a timer.
        client.list_topics(settings.topics.endpoints, timeout=_SESSION_S)
    except KafkaException as exception:
        client.poll(0)  # lets it report what is wrong
        raise no_session(settings, errors, str(exception)) from exception


def no_session(settings: Settings, errors: Sequence[KafkaError], failure: str) -> NoSessionError:
    """Why librdkafka could not open a session although a broker answers."""
    refused = next((error for error in errors if error.code() == AUTHENTICATION_FAILED), None)
    why = (refused or (errors[0] if errors else None)) or failure
    text = f"Could not open a session with Kafka at {settings.kafka_bootstrap_servers}."
    mechanism = settings.kafka_sasl_mechanism if settings.kafka_security_protocol.startswith("SASL") else None
    if refused is not None and mechanism == "OAUTHBEARER":
        advice = "The token is refused, or there is none. Check its issuer, audience and lifetime, and the clocks."
        return NoSessionError(f"{text} {advice} ({why})")
    if refused is not None:
        return NoSessionError(
            f"{text} The brokers refuse the login as {settings.kafka_sasl_username}: check {_LOGIN}. ({why})", needs_operator=True
        )
    if mechanism is None and any("isconnected" in str(error) for error in errors):
        return NoSessionError(
            f"{text} The port answers, but ends the session: it may require SASL. {_PROTOCOL}. ({why})", needs_operator=True
        )
    return NoSessionError(f"{text} A broker answers, but does not accept this client ({why}).")


def close_within(close: Callable[[], object], seconds: float, what: str) -> None:
    """Disconnect. librdkafka waits for requests in progress, even if a broker is frozen. After ``seconds``, it is abandoned."""

    def run() -> None:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - the stop must not hang
            log.warning("a client could not be closed cleanly", client=what, error=repr(error))

    thread = threading.Thread(target=run, name=f"close {what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.info("a client takes long to close; it is abandoned", client=what)
