"""Who gets which partitions: kafka-python's cooperative sticky assignor, with one fault of it mended."""

from __future__ import annotations

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # kafka-python is untyped
    """The assignor of one consumer.

    kafka-python 3.0.12 claims, when it joins again, what it was assigned last, also when it has lost that meanwhile: a member that was
    put out of its group (a frozen process, say) says that it owns partitions which another has by now. The leader believes
    it and lets both have them for a while, or gives such a partition to nobody.
    """

    def forget(self) -> None:
        """The partitions are lost: claim none of them."""
        self.member_assignment = None
        self.generation = self.DEFAULT_GENERATION_ID
