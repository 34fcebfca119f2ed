"""Errors of ClickHouse, by what can be done about them. Messages contain no credentials and no statements."""

from __future__ import annotations

from typing import ClassVar, Final


class StoreError(Exception):
    """ClickHouse did not do what was asked. The tree of errors of this package::

        StoreError
         +-- StoreUnavailableError   not reached, or no answer for now: try again later
         |    +-- StoreLoginError    the login or the certificate is refused
         |    +-- StoreLimitError    too much at once for its memory or time: less may succeed
         |    +-- StoreBusyError     too many searches at once
         +-- StoreRejectedError      the statement, the data or the configuration is wrong
         |    +-- StoreRowsError     the rows themselves are refused
         +-- StoreBudgetError        a search needs more than a search may take

    ``kind`` is the label in the metrics. ``needs_operator``: a retry is useless until somebody has changed something.
    """

    kind: ClassVar[str] = "rejected"
    needs_operator: ClassVar[bool] = True


class StoreUnavailableError(StoreError):
    """ClickHouse cannot be reached or cannot answer at the moment: try again later. The statement may have taken effect."""

    kind = "unavailable"
    needs_operator = False


class StoreLoginError(StoreUnavailableError):
    """ClickHouse refuses the user name or the password, or its certificate is not trusted. A retry can help, because either side
    may be fixed.
    """

    kind = "login"
    needs_operator = True


class StoreRejectedError(StoreError):
    """The statement, the data or the configuration is wrong: a retry does not help."""


class StoreLimitError(StoreUnavailableError):
    """ClickHouse lacks memory or time for this much: a smaller batch may succeed, and so may a retry."""


class StoreRowsError(StoreRejectedError):
    """ClickHouse refuses the rows themselves. Smaller batches show which; a record that is refused alone is refused for good."""


class StoreBudgetError(StoreError):
    """A search needed more time or memory than allowed: narrow it."""

    kind = "budget"


class StoreBusyError(StoreUnavailableError):
    """Too many searches at once: this one was not started, or ClickHouse refused it. Retry after ``retry_after`` seconds."""

    kind = "busy"
    retry_after = 5

    def __init__(self, ahead: int | None = None, seconds: float | None = None) -> None:
        """``ahead`` searches were before this one. It gave up after ``seconds``, or was refused immediately if that is None."""
        before = "other searches are" if ahead is None else f"{ahead} other searches are" if ahead != 1 else "one other search is"
        waited = "" if seconds is None else f", and none of them finished within {seconds:g} seconds"
        super().__init__(
            f"Too many searches at once: {before} ahead of this one{waited}. Try again in {self.retry_after} seconds."
        )


_TOO_MUCH: Final = {158, 191, 307, 396}
"""ClickHouse's error codes for reading too much (system.errors lists them on a server)."""

NARROW: Final = (
    "Narrow it with a time range (created_at_gteq, created_at_lteq), an order number, an endpoint, or a longer part of the body "
    "(at least three characters)."
)


def over_budget(code: int | None = None) -> StoreBudgetError:
    """The error for a search that exceeds its budget: of time, unless ``code``, ClickHouse's error code, says otherwise."""
    what = {
        241: "The search needs more memory than it may use.",
        **dict.fromkeys(_TOO_MUCH, "The search reads more data than it may."),
    }
    return StoreBudgetError(f"{what.get(code or 0, 'The search ran for longer than it may, and was stopped.')} {NARROW}")
