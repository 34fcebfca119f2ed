"""Topic administration: topics are created once, compared, and get more partitions."""

from __future__ import annotations

from schemas.topics import TopicSpec
from tests.contract.broker.backends import Backend


def spec(backend: Backend, name: str, partitions: int | None = 2) -> TopicSpec:
    return TopicSpec(f"{backend.prefix}{name}", "any", "delete", 60_000, partitions=partitions)


def test_topics_are_created_once(backend: Backend) -> None:
    wanted = [spec(backend, "one"), spec(backend, "two")]
    with backend.broker().admin() as admin:
        assert admin.create_missing(wanted[:1]) == [wanted[0].name]
        assert admin.create_missing(wanted) == [wanted[1].name]
        assert admin.create_missing(wanted) == []
        assert {each.name for each in wanted} <= set(admin.names())


def test_a_missing_topic_is_reported_as_a_difference(backend: Backend) -> None:
    wanted = [spec(backend, "there"), spec(backend, "missing")]
    with backend.broker().admin() as admin:
        admin.create_missing(wanted[:1])
        found = admin.differences(wanted)
    assert [str(each) for each in found] == [f"{wanted[1].name}: the topic is missing, wanted there"]


def test_every_topic_has_an_id(backend: Backend) -> None:
    wanted = [spec(backend, "one"), spec(backend, "two")]
    with backend.broker().admin() as admin:
        admin.create_missing(wanted)
        ids = admin.ids([each.name for each in wanted])
        assert admin.ids([each.name for each in wanted]) == ids
    assert set(ids) == {each.name for each in wanted}
    assert len(set(ids.values())) == 2


def test_adding_partitions(backend: Backend) -> None:
    fixed, growing = spec(backend, "fixed", 1), spec(backend, "growing", None)
    with backend.broker().admin() as admin:
        admin.create_missing([fixed, growing])
        before = admin.planned_growth([fixed, growing], 1)
        assert before == []
        planned = admin.planned_growth([fixed, growing], 40)
        assert [(each.topic, each.after) for each in planned] == [(growing.name, 40)]
        admin.grow([])
        backend.lacks("adds no partitions")
        admin.grow(planned)
        assert admin.planned_growth([fixed, growing], 40) == []
