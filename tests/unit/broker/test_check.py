"""Why there is no session with Kafka, in words. The texts are those that kafka-python logs against Apache Kafka 4.3."""

from __future__ import annotations

import pytest

from pipeline.broker.check import refusal

TIMEOUT = "failed: KafkaTimeoutError: Unable to bootstrap from ['kafka:9093']"
HUNG_UP = "Bootstrap connection to bootstrap-0 failed: KafkaConnectionError: socket disconnected (backoff 0.05 secs)"
NO_SASL = "Bootstrap connection to bootstrap-0 failed: [Error 34] IllegalSaslStateError (backoff 0.06 secs)"
NO_MECHANISM = "Bootstrap connection to bootstrap-0 failed: [Error 33] UnsupportedSaslMechanismError (backoff 0.06 secs)"
REFUSED = "Bootstrap connection to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError: no (backoff 0.06 secs)"


@pytest.mark.parametrize(
    ("said", "with_sasl", "words"),
    [
        ([HUNG_UP], True, "The brokers refuse the login. Check kafka_sasl_username"),
        ([HUNG_UP, REFUSED], True, "The brokers refuse the login. Check kafka_sasl_username"),
        ([NO_SASL], True, "The listener takes no SASL"),
        ([NO_MECHANISM], True, "do not offer this mechanism"),
        ([HUNG_UP], False, "it may want SASL or TLS"),
        ([], False, "Unable to bootstrap"),
    ],
)
def test_a_refusal_says_what_to_check(said: list[str], with_sasl: bool, words: str) -> None:
    problem = refusal(["Sending username and password in the clear", *said, TIMEOUT], with_sasl=with_sasl)
    assert words in problem
    assert "backoff" not in problem
