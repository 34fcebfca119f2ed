"""Why there is no session with Kafka, in words. The texts are those that kafka-python logs against Apache Kafka 4.3."""

from __future__ import annotations

import pytest

from pipeline.broker.kafka.session import refusal

TIMEOUT = "failed: KafkaTimeoutError: Unable to bootstrap from ['kafka:9093']"
HUNG_UP = (
    "Bootstrap connection to bootstrap-0 failed: KafkaConnectionError: The broker closed the connection. (backoff 0.05 secs)"
)
PLAINLY_HUNG_UP = HUNG_UP.replace("The broker closed the connection.", "socket disconnected")
"""With its own transport: without speed-ups, or beside librdkafka."""
NO_SASL = "Bootstrap connection to bootstrap-0 failed: [Error 34] IllegalSaslStateError (backoff 0.06 secs)"
REFUSED = "Bootstrap connection to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError: no (backoff 0.06 secs)"

NO_TOKEN = (
    "Bootstrap connection to bootstrap-0 failed: TokenError: kafka_oauth_token_file /run/token is empty (backoff 0.06 secs)"
)


@pytest.mark.parametrize(
    ("said", "mechanism", "words"),
    [
        ([HUNG_UP], "PLAIN", "refuse the login as shop. The user name or password is probably wrong: check"),
        (
            [HUNG_UP, REFUSED],
            "PLAIN",
            "as shop. Wrong user name or password: check OMS_WEBHOOKS_KAFKA_SASL_USERNAME, OMS_WEBHOOKS_",
        ),
        ([NO_SASL], "PLAIN", "The listener does not support SASL. Check OMS_WEBHOOKS_KAFKA_SECURITY_PROTOCOL"),
        ([HUNG_UP], None, "it may require SASL"),
        ([PLAINLY_HUNG_UP], None, "it may require SASL"),
        ([HUNG_UP], "OAUTHBEARER", "refuse the token. Check its issuer, audience and lifetime"),
    ],
)
def test_a_refusal_says_what_to_check(said: list[str], mechanism: str | None, words: str) -> None:
    problem, needs_operator = refusal(["Sending username and password in the clear", *said, TIMEOUT], mechanism, "shop")
    assert words in problem
    assert needs_operator
    assert "backoff" not in problem


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([NO_TOKEN, HUNG_UP], "There is no token: kafka_oauth_token_file /run/token is empty."),
        ([], "Unable to bootstrap"),
    ],
)
def test_a_temporary_problem_needs_no_operator(said: list[str], words: str) -> None:
    problem, needs_operator = refusal([*said, TIMEOUT], "OAUTHBEARER")
    assert words in problem
    assert not needs_operator
    assert "backoff" not in problem
