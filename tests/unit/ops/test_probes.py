from __future__ import annotations

import asyncio

import pytest

from pipeline.ops import metrics, probes
from pipeline.ops.probes import Probes


def up(dependency: str) -> float | None:
    return metrics.registry.get_sample_value("oms_webhooks_dependency_up", {"dependency": dependency})


async def changed(check: object, wanted: str | None) -> None:
    assert callable(check)
    async with asyncio.timeout(10):
        while check() != wanted:  # noqa: ASYNC110 - a probe has no event
            await asyncio.sleep(0.005)


async def test_a_dependency_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "EVERY_SECONDS", 0.01)
    errors: list[Exception] = []

    async def ask() -> None:
        if errors:
            raise errors[0]

    watched = Probes()
    check = watched.watch("thing", ask)
    assert check() == "thing has not been asked yet"
    await changed(check, None)
    assert up("thing") == 1
    errors.append(OSError("no route"))
    await changed(check, "no route")
    assert up("thing") == 0
    errors[0] = OSError()
    await changed(check, "OSError")
    errors.clear()
    await changed(check, None)
    await watched.stop()
    assert up("thing") is None, "nobody asks any more"


async def test_one_that_hangs_is_down_and_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ANSWER_SECONDS", 0.05)
    watched = Probes()
    hanging = watched.watch("hanging", asyncio.Event().wait)
    well = watched.watch("well", lambda: asyncio.sleep(0))
    await changed(well, None)
    await changed(hanging, "no answer within 0.05 s")
    assert (up("hanging"), up("well")) == (0, 1)
    await watched.stop()
