from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.core.failing_stages import stages_reached, stages_to_notify

HOUR, DAYS = timedelta(hours=1), timedelta(days=5)


@pytest.mark.parametrize(
    ("hours", "stages"),
    [
        (0.9, ()),
        (1, ("failing",)),
        (59.9, ("failing",)),
        (60, ("failing", "50")),
        (89.9, ("failing", "50")),
        (90, ("failing", "50", "75")),
        (107.9, ("failing", "50", "75")),
        (108, ("failing", "50", "75", "90")),
    ],
)
def test_stages_are_reached_in_order(hours: float, stages: tuple[str, ...]) -> None:
    assert stages_reached(hours * HOUR, HOUR, DAYS) == stages


def test_of_several_percentages_only_the_highest_is_sent() -> None:
    assert stages_to_notify(("failing", "50", "75"), ()) == ("failing", "75")
    assert stages_to_notify(("failing", "50", "75"), ("failing", "50")) == ("75",)
    assert stages_to_notify(("failing", "50", "75"), ("failing", "50", "75")) == ()
    assert stages_to_notify(("failing", "50", "75", "90"), ()) == ("failing", "90")
    assert stages_to_notify(("failing", "50", "75", "90"), ("failing", "50", "75")) == ("90",)
    assert stages_to_notify(("failing", "50"), ()) == ("failing", "50")
    assert stages_to_notify((), ()) == ()


def test_a_late_failing_notice_follows_the_percentages() -> None:
    assert stages_reached(60 * HOUR, timedelta(days=4), DAYS) == ("50",)
    assert stages_to_notify(("failing", "50", "75", "90"), ("50", "75", "90")) == ("failing",)
