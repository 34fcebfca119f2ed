"""Writing through the registry: written records can be read, and creates may race."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.signing import new_secret
from schemas.codec import from_json
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.property_examples import examples
from tests.unit.endpoints.registry_case import TOPIC, URL, VAULT, EndpointsTopic, change, registry, value_of, with_url
from tests.unit.fake_kafka import settle
from tests.unit.sample_events import endpoint_record

# --- writing ---


async def test_a_write_returns_when_it_can_be_read_here() -> None:
    endpoints = registry()
    topic = EndpointsTopic()

    writing = asyncio.create_task(endpoints.write(topic, endpoint_record(7)))
    await settle()
    assert not writing.done(), "Kafka has it, but this process has not read it"
    topic.catch_up(endpoints)
    await writing

    assert endpoints.get(7) is not None
    assert [(sent.topic, sent.key) for sent in topic.sent] == [(TOPIC, b"7")]
    assert topic.sent[0].value == value_of(endpoint_record(7))


async def test_a_write_that_kafka_does_not_acknowledge_does_not_return() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints, hold=True)

    writing = asyncio.create_task(endpoints.write(topic, endpoint_record(7)))
    await settle()
    assert not writing.done()
    topic.sent[0].acknowledge()
    await writing


async def test_a_write_that_cannot_be_read_in_time_is_an_error() -> None:
    endpoints = registry()

    with pytest.raises(TimeoutError):
        await endpoints.table.wait_for(0, timeout=0.01)


async def test_a_new_endpoint_gets_its_own_id() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints)

    first, first_is_new = await endpoints.create(topic, with_url("https://one.example"))
    second, second_is_new = await endpoints.create(topic, with_url("https://two.example"))

    assert first_is_new
    assert second_is_new
    assert 0 < first.id < second.id
    assert [endpoint.id for endpoint in endpoints.all()] == [first.id, second.id]
    assert [sent.key for sent in topic.sent] == [b"id-claim", str(first.id).encode(), b"id-claim", str(second.id).encode()]


async def test_a_registered_url_is_not_registered_again() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints)
    first, _ = await endpoints.create(topic, with_url(URL))

    again, is_new = await endpoints.create(topic, with_url(URL))

    assert (again, is_new) == (first, False)
    assert len(endpoints.all()) == 1


async def test_creates_of_one_process_are_sequential() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints)

    created = await asyncio.gather(*(endpoints.create(topic, with_url(URL)) for _ in range(5)))

    assert sorted(is_new for _, is_new in created) == [False] * 4 + [True]
    assert len({endpoint.id for endpoint, _ in created}) == 1
    assert len(endpoints.all()) == 1


async def test_two_processes_that_create_one_url_at_once_agree() -> None:
    ours, theirs = registry(), registry()
    topic = EndpointsTopic()

    creating = [asyncio.create_task(endpoints.create(topic, with_url(URL))) for endpoints in (ours, theirs)]
    await settle()
    assert len(topic.sent) == 4, "both have claimed an id and written, and neither has read the other's record"
    for _ in range(3):
        topic.catch_up(theirs)
        topic.catch_up(ours)
        await settle()
    (first, first_is_new), (second, second_is_new) = await asyncio.gather(*creating)

    assert first.id == second.id == 1
    assert (first_is_new, second_is_new) == (True, False)
    for endpoints in (ours, theirs):
        assert [endpoint.id for endpoint in endpoints.all()] == [1]


async def test_two_processes_agree_when_the_higher_id_is_written_first() -> None:
    ours, theirs = registry(), registry()
    slow, quick = EndpointsTopic(hold=True), EndpointsTopic()
    quick.sent = slow.sent  # one topic, two producers
    quick._ends = slow._ends

    # The claim is in the topic, and its acknowledgement is on its way.
    ours_creating = asyncio.create_task(ours.create(slow, with_url(URL)))
    await settle()
    theirs_creating = asyncio.create_task(theirs.create(quick, with_url(URL)))
    await settle()
    quick.catch_up(theirs)
    await theirs_creating
    slow.hold = False
    slow.sent[0].acknowledge()
    await settle()
    for _ in range(3):
        for endpoints in (ours, theirs):
            quick.catch_up(endpoints)
            await settle()
    (first, first_is_new), (second, second_is_new) = await ours_creating, await theirs_creating

    assert (first.id, first_is_new) == (second.id, False)
    assert second_is_new
    for endpoints in (ours, theirs):
        assert [endpoint.id for endpoint in endpoints.all()] == [second.id]


async def _race(seed: int) -> None:
    """Processes create one URL; the seed decides the order of acknowledgements and reads."""
    chooser = random.Random(seed)
    processes = [registry() for _ in range(chooser.randint(2, 4))]
    topic = EndpointsTopic(hold=True)
    creating = [asyncio.create_task(process.create(topic, with_url(URL))) for process in processes]
    while not all(task.done() for task in creating):
        await asyncio.sleep(0)
        if topic.sent:
            chooser.choice(topic.sent).acknowledge()
        if chooser.random() < 0.5:
            topic.catch_up(chooser.choice(processes))

    answers = [task.result() for task in creating]
    fresh = registry()
    for process in [*processes, fresh]:
        topic.catch_up(process)
        [stays] = process.all()
        assert {endpoint.id for endpoint, _ in answers} == {stays.id}
    assert sum(is_new for _, is_new in answers) == 1


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32))
def test_racing_processes_agree_in_every_order(seed: int) -> None:
    asyncio.run(_race(seed))


async def test_the_loser_of_a_race_writes_a_record_of_its_deletion() -> None:
    endpoints = registry()
    topic = EndpointsTopic()
    creating = asyncio.create_task(endpoints.create(topic, with_url(URL)))
    await settle()
    endpoints._apply([change(endpoint_record(0, target_url=URL))])  # another process was first
    for _ in range(3):
        topic.catch_up(endpoints)
        await settle()

    endpoint, is_new = await creating

    assert (endpoint.id, is_new) == (0, False)
    last = topic.sent[-1]
    assert last.key == b"1"
    assert last.value is not None
    deletion = from_json(last.value, EndpointRecord)
    assert (deletion.deleted, deletion.change, deletion.version) == (True, "delete", 2)


async def test_the_deletion_of_a_duplicate_contains_no_secrets() -> None:
    endpoints = registry()
    topic = EndpointsTopic()
    secrets = (SealedSecret(sealed=VAULT.seal(new_secret())),)
    creating = asyncio.create_task(
        endpoints.create(
            topic,
            lambda new_id: endpoint_record(
                new_id, target_url=URL, secrets=secrets, sealed_token=VAULT.seal("t0ken"), filters={"a": ("b",)}
            ),
        )
    )
    await settle()
    endpoints._apply([change(endpoint_record(0, target_url=URL))])
    for _ in range(3):
        topic.catch_up(endpoints)
        await settle()
    await creating

    last = topic.sent[-1].value
    assert last is not None
    deletion = from_json(last, EndpointRecord)
    assert (deletion.secrets, deletion.sealed_token, deletion.filters) == ((), None, {})


async def test_a_cancelled_create_lets_the_next_one_proceed() -> None:
    endpoints = registry()
    topic = EndpointsTopic(endpoints, hold=True)
    creating = asyncio.create_task(endpoints.create(topic, with_url(URL)))
    await settle()
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    topic.hold = False

    _, is_new = await endpoints.create(topic, with_url(URL))

    assert is_new
