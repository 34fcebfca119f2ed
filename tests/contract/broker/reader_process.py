"""A group member to freeze and kill: it writes down each record that it starts, and finishes it at once.

Arguments: servers, client, group, topic, slot, the file to write to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop

from pipeline.broker.api import Record
from pipeline.broker.consumer import ConsumerOptions
from pipeline.broker.factory import open_broker
from pipeline.broker.record_worker import RecordWorker
from pipeline.ops.settings import Settings


async def main(servers: str, client: str, group: str, topic: str, slot: str, file: str) -> None:
    settings = Settings(kafka_bootstrap_servers=servers, kafka_client=client, kafka_session_timeout_ms=6000)
    with Path(file).open("a", buffering=1) as begun:  # noqa: ASYNC230 - a line at a time

        async def handle(record: Record) -> None:
            begun.write(f"{record.partition.number} {record.offset}\n")

        worker = RecordWorker(
            open_broker(settings, slot=slot),
            handle,
            ConsumerOptions(
                group=group,
                topics=[topic],
                max_outstanding=50,
                max_outstanding_bytes=2**20,
            ),
        )
        await worker.start()
        await worker.failed


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
