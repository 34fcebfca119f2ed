"""Opens sessions with Kafka, and explains failures.

kafka-python tries all brokers until its time is over, and gives the reasons only in its log, in many lines. They are collected
here and included in the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka.errors import AuthorizationError, KafkaError

from pipeline.broker.errors import NoSessionError
from pipeline.broker.kafka.bootstrap import reach_brokers
from pipeline.broker.kafka.library_log import listening

SESSION_MS: Final = 6_000
"""How long kafka-python may try. A broker has answered just before."""

_LOGIN: Final = "OMS_WEBHOOKS_KAFKA_SASL_USERNAME, OMS_WEBHOOKS_KAFKA_SASL_PASSWORD and OMS_WEBHOOKS_KAFKA_SASL_MECHANISM"
_HUNG_UP: Final = ("closed the connection", "socket disconnected")
"""How a closed connection is reported: by our transport, and by kafka-python's own."""
_PROTOCOL: Final = "Check OMS_WEBHOOKS_KAFKA_SECURITY_PROTOCOL and the port"


@contextmanager
def opening_session(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Create a kafka-python client in this context, with the yielded ``config``, which names only brokers that answer.

    Otherwise kafka-python would wait for the first broker until its time is over, even if only that one hangs.

    Raises:
        NoSessionError: no broker answers, or none accepts the client.
    """
    met = reach_brokers(config)
    with listening() as messages:
        try:
            yield {**config, "bootstrap_servers": met}
        except KafkaError as error:
            raise no_session(config, messages, error) from error


def no_session(config: Mapping[str, Any], messages: Sequence[str], error: KafkaError) -> NoSessionError:
    """Why kafka-python could not open a session although a broker answers."""
    servers = ", ".join(config["bootstrap_servers"])
    if isinstance(error, AuthorizationError):
        message = f"Kafka at {servers} does not allow it ({error}). `oms-webhooks grants` prints the rights of each role."
        return NoSessionError(message, needs_operator=True)
    if any("no brokers" in text for text in messages):
        return NoSessionError(f"Kafka at {servers} is starting: it names no usable broker yet.")
    mechanism = config.get("sasl_mechanism") if config["security_protocol"].startswith("SASL") else None
    why, needs_operator = refusal([*messages, f"failed: {error}"], mechanism, config.get("sasl_plain_username"))
    return NoSessionError(f"Could not open a session with Kafka at {servers}. {why}", needs_operator=needs_operator)


def refusal(messages: Sequence[str], mechanism: str | None, user: str | None = None) -> tuple[str, bool]:
    """Why there is no session, according to kafka-python's messages, and whether a person must fix it.

    Brokers close the connection silently if the credentials are wrong, or if the client does not speak the listener's protocol.
    """
    reasons = [text.partition("failed: ")[2].partition(" (backoff")[0] for text in messages if "failed: " in text]
    why = next((reason for reason in reasons if "Sasl" in reason or "TokenError" in reason), reasons[0])
    is_explained = any(word in why for word in _HUNG_UP) or "Sasl" in why
    if "TokenError" in why:
        return f"There is no token: {why.partition('TokenError: ')[2]}.", False
    if "IllegalSaslState" in why:
        return f"The listener does not support SASL. {_PROTOCOL}. ({why})", True
    if not is_explained:
        return f"A broker answers, but does not accept this client ({why}).", False
    if mechanism is None:
        return f"The port answers, but ends the session: it may require SASL. {_PROTOCOL}. ({why})", True
    if mechanism == "OAUTHBEARER":
        return f"The brokers refuse the token. Check its issuer, audience and lifetime, and the clocks. ({why})", True
    wrong = "Wrong user name or password" if "SaslAuthenticationFailed" in why else "The user name or password is probably wrong"
    return f"The brokers refuse the login as {user}. {wrong}: check {_LOGIN}. ({why})", True
