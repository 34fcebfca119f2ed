from __future__ import annotations

import pytest

from pipeline.web.errors import ApiError, WrongKeyError
from pipeline.web.login_throttle import LoginThrottle


def wrong() -> str:
    raise WrongKeyError


def test_an_address_may_guess_again_after_the_window() -> None:
    now = [100.0]
    throttle = LoginThrottle(limit=2, seconds=60.0, clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(WrongKeyError):
            throttle.checked("a", wrong)
    with pytest.raises(ApiError, match="Try again in 60 s") as caught:
        throttle.checked("a", lambda: "right")
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "60"})
    assert throttle.checked("b", lambda: "right") == "right"

    now[0] += 60
    assert throttle.checked("a", lambda: "right") == "right"
    with pytest.raises(WrongKeyError):
        throttle.checked("a", wrong)


def test_a_correct_key_does_not_reset_the_guesses() -> None:
    throttle = LoginThrottle(limit=2, clock=lambda: 1.0)
    for check in (wrong, lambda: "right", wrong):
        try:
            throttle.checked("a", check)
        except WrongKeyError:
            continue
    with pytest.raises(ApiError) as caught:
        throttle.checked("a", wrong)
    assert caught.value.status == 429


def test_many_addresses_take_bounded_memory() -> None:
    throttle = LoginThrottle(limit=2, clock=lambda: 1.0)
    for number in range(10_050):
        with pytest.raises(WrongKeyError):
            throttle.checked(str(number), wrong)
    assert len(throttle._windows) == 10_000
