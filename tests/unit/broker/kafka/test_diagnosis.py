"""The request for the SASL mechanisms that a broker offers, byte for byte as kafka-python sends it."""

from __future__ import annotations

import struct

import pytest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslHandshakeRequest

from pipeline.broker.kafka.diagnosis import _handshake, _offered


def test_the_request_equals_that_of_kafka_python() -> None:
    protocol = KafkaProtocol(client_id="oms-webhooks")
    protocol.send_request(SaslHandshakeRequest[1](mechanism="SCRAM-SHA-256"))
    theirs, ours = protocol.send_bytes(), _handshake("SCRAM-SHA-256")
    assert ours[:8] + ours[12:] == theirs[:8] + theirs[12:]  # except for the number that the answer repeats


def test_the_answer_lists_the_mechanisms() -> None:
    answer = struct.pack(">ihi", 1, 33, 2) + b"\x00\x05PLAIN" + b"\x00\x0bOAUTHBEARER"
    assert _offered(answer) == ["OAUTHBEARER", "PLAIN"]
    with pytest.raises(struct.error):
        _offered(answer[:12][:9])
