"""Why there is no session with Kafka, in words. The texts are those that kafka-python logs against Apache Kafka 4.3."""

from __future__ import annotations

import pytest

from pipeline.broker.kafka.check import refusal

TIMEOUT = "failed: KafkaTimeoutError: Unable to bootstrap from ['kafka:9093']"
HUNG_UP = (
    "Bootstrap connection to bootstrap-0 failed: KafkaConnectionError: The broker closed the connection. (backoff 0.05 secs)"
)
NO_SASL = "Bootstrap connection to bootstrap-0 failed: [Error 34] IllegalSaslStateError (backoff 0.06 secs)"
REFUSED = "Bootstrap connection to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError: no (backoff 0.06 secs)"

NO_TOKEN = (
    "Bootstrap connection to bootstrap-0 failed: TokenError: kafka_oauth_token_file /run/token is empty (backoff 0.06 secs)"
)


@pytest.mark.parametrize(
    ("said", "mechanism", "words"),
    [
        ([HUNG_UP], "PLAIN", "The brokers refuse the login. Check kafka_sasl_username"),
        ([HUNG_UP, REFUSED], "PLAIN", "The brokers refuse the login. Check kafka_sasl_username"),
        ([NO_SASL], "PLAIN", "The listener takes no SASL"),
        ([HUNG_UP], None, "it may want SASL"),
        ([HUNG_UP], "OAUTHBEARER", "refuse the token. Check its issuer, audience and lifetime"),
        ([NO_TOKEN, HUNG_UP], "OAUTHBEARER", "There is no token: kafka_oauth_token_file /run/token is empty."),
        ([], None, "Unable to bootstrap"),
    ],
)
def test_a_refusal_says_what_to_check(said: list[str], mechanism: str | None, words: str) -> None:
    problem = refusal(["Sending username and password in the clear", *said, TIMEOUT], mechanism)
    assert words in problem
    assert "backoff" not in problem
