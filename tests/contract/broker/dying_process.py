"""A group member that is killed while it gives up partitions, between the two rounds of a cooperative rebalance.

Arguments: servers, client, group, topic, slot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import Final

from pipeline.broker.api import Committed, Partition
from pipeline.broker.factory import open_broker
from pipeline.ops.settings import Settings
from tests.contract.broker.backends import Heard, take_part

EXIT_CODE: Final = 9


class Dying(Heard):
    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        os._exit(EXIT_CODE)


def main(servers: str, client: str, group: str, topic: str, slot: str) -> None:
    settings = Settings(kafka_bootstrap_servers=servers, kafka_client=client, kafka_session_timeout_ms=6000)
    heard = Dying()
    member = open_broker(settings, slot=slot).group_client(group, [topic], heard)
    take_part([member], lambda: bool(heard.held))
    print(f"it has {len(heard.held)} partitions", flush=True)
    take_part([member], lambda: False)


if __name__ == "__main__":
    main(*sys.argv[1:])
