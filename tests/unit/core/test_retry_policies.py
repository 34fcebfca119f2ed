from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.retry_policies import RetryPolicies, length
from pipeline.ops.settings import Settings
from schemas.retry_policy import check_retry_policy
from schemas.topics import parse_delay

POLICIES = Settings().retry_policies


def delays(text: str) -> tuple[timedelta, ...]:
    return tuple(map(parse_delay, text.split(",")))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("standard", "Retries after 5 s, 1 min, 10 min, 1 h and 6 h; gives up after 7 h 11 min."),
        ("patient", "Retries after 1 h, 6 h, 17 h, 1 day and 1 day; gives up after 3 days."),
        ("impatient", "Retries after 5 s, 5 s, 15 s, 15 s and 15 s; gives up after 55 s."),
        ("10m", "Retries after 10 min; gives up after 10 min."),
        ("5s,10m", "Retries after 5 s and 10 min; gives up after 10 min 5 s."),
    ],
)
def test_a_policy_is_described_in_words(policy: str, words: str) -> None:
    assert POLICIES.words(policy) == words


def test_the_patient_policy_takes_72_hours_and_the_impatient_one_less_than_a_minute() -> None:
    assert [POLICIES.schedule_of(name).attempts for name in ("patient", "impatient")] == [6, 6]
    assert sum(POLICIES.schedule_of("patient").delays, timedelta(0)) == timedelta(hours=72)
    assert sum(POLICIES.schedule_of("impatient").delays, timedelta(0)) < timedelta(minutes=1)


def test_every_delay_of_every_policy_has_a_topic() -> None:
    settings = Settings(further_retry_delays="2h")

    names = [topic.removeprefix("webhooks.delay.") for topic in settings.topics.delay_topics]

    assert names == ["0s", "5s", "15s", "1m", "10m", "1h", "2h", "6h", "17h", "1d"]


def test_delays_without_a_topic_are_named_with_the_available_ones() -> None:
    assert POLICIES.unknown("5s,2m,3h") == (
        "retry_policy has delays without a topic: 2m, 3h. Choose from 5s, 15s, 1m, 10m, 1h, 6h, 17h, 1d."
    )
    assert POLICIES.unknown("5s,15s") is None
    assert POLICIES.unknown("patient") is None


def test_a_removed_delay_is_replaced_with_the_next_longer_one() -> None:
    assert POLICIES.schedule_of("7s,2h,9d").delays == delays("15s,6h,1d")


@pytest.mark.parametrize("policy", ["", "furious", "5s,soon", "1h,5s", "0s", "9" * 5000 + "d", "1s," * 50 + "1s"])
def test_an_unknown_policy_is_the_standard_one(policy: str) -> None:
    assert POLICIES.schedule_of(policy).delays == POLICIES.standard.delays


def test_retry_after_may_be_longer_than_an_impatient_policy() -> None:
    impatient = POLICIES.schedule_of("impatient")

    assert impatient.after(1, timedelta(seconds=6)) == timedelta(seconds=15)
    assert impatient.after(1, timedelta(minutes=9)) == timedelta(minutes=10)
    assert impatient.after(1, timedelta(days=365)) == timedelta(hours=6)
    assert impatient.after(6, timedelta(minutes=9)) is None
    assert POLICIES.schedule_of("patient").after(1, timedelta(days=365)) == timedelta(days=1)


@given(st.lists(st.sampled_from(POLICIES.delays), min_size=1, max_size=5).map(sorted), st.timedeltas(timedelta(0)))
def test_every_retry_of_any_policy_has_a_topic(chosen: list[timedelta], wish: timedelta) -> None:
    schedule = RetryPolicies(POLICIES.standard.delays, further=chosen).schedule_of(
        ",".join(f"{delay // timedelta(seconds=1)}s" for delay in chosen)
    )

    assert schedule.delays == tuple(chosen)
    assert all(schedule.after(attempt, wish) in Settings().topics.delays for attempt in range(1, schedule.attempts))


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [(None, "standard"), (" patient ", "patient"), ("60s, 600s", "1m,10m"), ("24h", "1d"), ("5s,5s,5s,5s,5s", "5s,5s,5s,5s,5s")],
)
def test_a_policy_is_stored_in_its_shortest_form(given_value: object, kept: str) -> None:
    assert check_retry_policy(given_value) == kept


@pytest.mark.parametrize(
    "value", ["", "furious", "5s,", "10m,5s", "0s", "5s,5s,5s,5s,5s,5s", 5, True, ["5s"], {}, "1s" * 500, "9" * 150 + "d"]
)
def test_an_invalid_policy_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match=r"^retry_policy must be standard, patient, impatient, or one to 5 delays.*5s,1m,10m"):
        check_retry_policy(value)


@pytest.mark.parametrize(
    ("delay", "words"),
    [
        ("250ms", "250 ms"),
        ("90s", "1 min 30 s"),
        ("25h", "1 day 1 h"),
        ("86405s", "1 day"),
        ("60h", "2 days 12 h"),
        ("0s", "0 s"),
    ],
)
def test_durations(delay: str, words: str) -> None:
    assert length(parse_delay(delay)) == words
