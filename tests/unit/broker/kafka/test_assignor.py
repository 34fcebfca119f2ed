"""The assignor claims what its consumer holds, and nothing that it has lost."""

from __future__ import annotations

from typing import Any

from kafka.coordinator.assignors.abstract import RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from pipeline.broker.kafka.assignor import Assignor


def assigned(*numbers: int) -> Assignor:
    assignor = Assignor()
    assignor.on_assignment(ConsumerProtocolAssignment(1, [("orders", list(numbers))], b""), 7)
    return assignor


def claimed(assignor: Assignor) -> dict[str, list[int]]:
    metadata: Any = assignor.metadata({"orders"})
    return {owned.topic: list(owned.partitions) for owned in metadata.owned_partitions}


def test_a_member_claims_what_it_holds() -> None:
    assert claimed(assigned(0, 2)) == {"orders": [0, 2]}


def test_a_member_that_was_put_out_claims_nothing() -> None:
    assignor = assigned(0, 2)
    assignor.forget()
    assert claimed(assignor) == {}


def test_each_consumer_has_an_assignor_of_its_own() -> None:
    first, second = assigned(0), assigned(1)
    first.forget()
    assert claimed(second) == {"orders": [1]}
    assert first.supported_protocols() == [RebalanceProtocol.COOPERATIVE]
