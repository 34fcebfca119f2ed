from __future__ import annotations

import asyncio

import pytest

from pipeline.ops import dependency_probes, metrics
from pipeline.ops.dependency_probes import Probes, pause
from tests.waiting import until


def up(dependency: str) -> float | None:
    return metrics.registry.get_sample_value("oms_webhooks_dependency_up", {"dependency": dependency})


def outages(dependency: str) -> float:
    return metrics.registry.get_sample_value("oms_webhooks_dependency_outages_total", {"dependency": dependency}) or 0.0


class RefusedError(Exception):
    needs_operator = True


async def test_a_dependency_fails_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency_probes, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(dependency_probes, "AWAY_SECONDS", (0.01,))
    errors: list[Exception] = []

    async def ask() -> None:
        if errors:
            raise errors[0]

    watched = Probes()
    probe = watched.add("thing", ask)
    before = outages("thing")
    assert probe.problem() == "thing has not been probed yet"
    assert up("thing") == 0, "the first scrape must not wait for the first answer"
    watched.start()
    await until(lambda: probe.problem() is None)
    assert up("thing") == 1
    errors.append(OSError("no route"))
    await until(lambda: probe.problem() == "no route")
    assert up("thing") == 0
    errors[0] = OSError()
    await until(lambda: probe.problem() == "OSError")
    assert outages("thing") == before + 1, "it is the same outage"
    back = asyncio.create_task(probe.until_up())
    errors.clear()
    await until(lambda: probe.problem() is None)
    await back
    await watched.stop()
    assert up("thing") is None, "nobody probes it any longer"


async def test_a_hanging_dependency_is_down_and_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency_probes, "ANSWER_SECONDS", 0.05)
    watched = Probes()
    hanging = watched.add("hanging", asyncio.Event().wait)
    well = watched.add("well", lambda: asyncio.sleep(0))
    watched.start()
    await until(lambda: well.problem() is None)
    await until(lambda: hanging.problem() == "no answer within 0.05 s")
    assert (up("hanging"), up("well")) == (0, 1)
    await watched.stop()


async def test_a_refusal_needs_an_operator() -> None:
    async def ask() -> None:
        raise RefusedError("wrong password")

    watched = Probes()
    probe = watched.add("thing", ask)
    assert not await probe.ask()
    assert probe.outage.needs_operator
    await watched.stop()


def test_an_unreachable_dependency_is_probed_more_often_than_a_refusing_one() -> None:
    assert 0.25 <= pause(1, refused=False) <= 0.5
    assert 2.0 <= pause(100, refused=False) <= 4.0
    assert 7.5 <= pause(1, refused=True) <= 15.0
    assert len({pause(9, refused=False) for _ in range(10)}) > 1, "not all processes at the same moment"
