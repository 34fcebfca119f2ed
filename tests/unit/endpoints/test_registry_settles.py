"""Concurrent changes in several processes: all of them agree at once, and also after compaction and a restart."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.endpoints.registry import Registry, SupersededError
from pipeline.endpoints.subscriptions import MatchInput
from tests.property_examples import examples
from tests.unit.endpoints.registry_case import TOPIC, URL, EndpointsTopic, change, registry, with_url
from tests.unit.fake_kafka import record, settle
from tests.unit.sample_events import endpoint_record


def shown(endpoints: Registry) -> list[tuple[int, str, int]]:
    return [(one.id, one.target_url, one.record.version) for one in endpoints.all()]


def compacted(topic: EndpointsTopic) -> Registry:
    """Return the registry of a process that starts after compaction: the last record of each key is there."""
    last = {sent.key: sent for sent in topic.to(TOPIC)}
    fresh = registry()
    ordered = sorted(last.values(), key=lambda sent: sent.position.offset)
    fresh._apply([record(sent.value, topic=TOPIC, key=sent.key, offset=sent.position.offset) for sent in ordered])
    return fresh


async def test_the_first_of_two_changes_wins_and_the_other_writer_is_notified() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints)
    await endpoints.write(topic, endpoint_record(7))
    await endpoints.write(topic, endpoint_record(7, target_url="https://a.example", version=2))

    with pytest.raises(SupersededError):
        await endpoints.write(topic, endpoint_record(7, target_url="https://b.example", version=2))
    assert shown(endpoints) == [(7, "https://a.example", 2)]
    assert shown(compacted(topic)) == [(7, "https://b.example", 2)], "so it must be settled"

    await endpoints.settle(topic)
    assert shown(compacted(topic)) == shown(endpoints) == [(7, "https://a.example", 3)]
    written = len(topic.sent)
    await endpoints.settle(topic)
    assert len(topic.sent) == written, "there is nothing left to settle"


async def test_a_starting_process_settles_the_changes_of_one_that_died() -> None:
    topic = EndpointsTopic()
    dead = registry()
    topic.followers.append(dead)
    await dead.write(topic, endpoint_record(7, target_url="https://a.example"))
    await dead.write(topic, endpoint_record(8, target_url="https://b.example"))
    with pytest.raises(SupersededError):
        await dead.write(topic, endpoint_record(8, target_url="https://a.example", version=2))

    starting = registry()
    topic.followers.append(starting)
    topic.catch_up(starting)
    await starting.settle(topic)

    assert shown(starting) == shown(dead) == shown(compacted(topic)) == [(7, "https://a.example", 1), (8, "https://b.example", 2)]


async def test_an_endpoint_that_never_existed_is_settled_as_deleted() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints)
    await endpoints.write(topic, endpoint_record(7, target_url="https://a.example"))
    with pytest.raises(SupersededError):
        await endpoints.write(topic, endpoint_record(9, target_url="https://a.example"))
    await endpoints.settle(topic)
    await endpoints.write(topic, endpoint_record(7, deleted=True, version=2))
    assert shown(compacted(topic)) == shown(endpoints) == []


def test_late_changes_are_not_seen_by_deliveries() -> None:
    async def check() -> None:
        endpoints = registry()
        endpoints._apply([change(endpoint_record(7)), change(endpoint_record(7, events=("shipment_shipped",)))])
        assert [one.id for one in endpoints.matching(MatchInput("order_completed", dict))] == [7]

    asyncio.run(check())


async def _race(seed: int) -> None:
    """Processes write to two endpoints as they see them, and settle; the seed decides what is read when."""
    chooser = random.Random(seed)
    processes = [registry() for _ in range(3)]
    topic = EndpointsTopic(*processes)
    for number in (1, 2):
        await processes[0].write(topic, endpoint_record(number, target_url=f"https://{number}.example"))
    topic.followers = []

    async def write(process: Registry) -> None:
        for _ in range(3):
            current = process.get(chooser.choice((1, 2)))
            if current is None:
                continue
            url = f"https://{chooser.choice((1, 2, 3))}.example"
            deleted = chooser.random() < 0.1
            update = {"target_url": url, "version": current.record.version + 1, "deleted": deleted}
            try:
                await process.write(topic, replace(current.record, **update))
            except SupersededError:
                await process.settle(topic)

    writing = [asyncio.create_task(write(process)) for process in processes]
    while not all(task.done() for task in writing):
        await asyncio.sleep(0)
        topic.catch_up(chooser.choice(processes))
    for task in writing:
        task.result()
    for process in processes:
        topic.catch_up(process)
    states = [shown(process) for process in processes]
    assert states[0] == states[1] == states[2] == shown(compacted(topic))
    urls = [url for _, url, _ in states[0]]
    assert len(urls) == len(set(urls))


@settings(max_examples=examples(80), deadline=None)
@given(st.integers(0, 2**32))
def test_racing_processes_agree_also_after_compaction(seed: int) -> None:
    asyncio.run(_race(seed))


async def test_a_url_whose_winner_was_deleted_is_registered_after_all() -> None:
    endpoints = registry()
    topic = EndpointsTopic()
    creating = asyncio.create_task(endpoints.create(topic, with_url(URL)))
    await settle()
    # Another process was first, and has deleted its endpoint before ours was read back.
    other = endpoint_record(99, target_url=URL)
    endpoints._apply([change(other)])
    written = topic.to(TOPIC)[-1]
    assert written.key == b"1"
    table = endpoints.table
    records = [record(sent.value, topic=TOPIC, key=sent.key, offset=sent.position.offset) for sent in topic.to(TOPIC)]
    table._apply([*records, change(endpoint_record(99, target_url=URL, deleted=True, version=2))], len(records), caught_up=False)
    for _ in range(4):
        await settle()
        topic.catch_up(endpoints)

    endpoint, is_new = await creating

    assert (is_new, endpoint.target_url, endpoints.all()) == (True, URL, [endpoint])
    assert endpoint.id != 1
    assert compacted(topic).all()[0].id == endpoint.id
