"""``pytest --reasons``: at the end, a list of the tests that took more than a second and do not say why.

The list is for a person: no test fails because of time. What fixtures take is not counted, nor property tests in ``make test-slow``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Generator, Iterator

import pytest

_REASON = re.compile(r"\btakes?(?: \S+){0,4}? (?:seconds?|minutes?|long)\b")
"""What a reason looks like, somewhere in a docstring: "It takes two seconds: …"."""
_UNEXPLAINED = ("unexplained", True)


def says_why(item: pytest.Item) -> bool:
    return any(map(_REASON.search, _docstrings(item)))


def _docstrings(item: pytest.Item) -> Iterator[str]:
    """Those of a test, its class, its file, and the conftest.py of each folder that it is in."""
    for node in item.listchain():
        yield getattr(getattr(node, "obj", None), "__doc__", None) or ""
    for folder in item.path.parents:
        if (conftest := folder / "conftest.py").is_file():
            yield ast.get_docstring(ast.parse(conftest.read_text())) or ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    is_thorough = item.config.getoption("--hypothesis-profile", None) == "thorough" and item.get_closest_marker("hypothesis")
    if report.when == "call" and report.duration > 1.0 and not is_thorough and not says_why(item):
        report.user_properties.append(_UNEXPLAINED)  # so that it also comes from the processes of pytest-xdist
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for some in terminalreporter.stats.values() for report in some if isinstance(report, pytest.TestReport)]
    found = [report for report in reports if report.when == "call" and _UNEXPLAINED in report.user_properties]
    terminalreporter.section("tests that took more than a second and do not say why")
    for report in sorted(found, key=lambda report: -report.duration):
        terminalreporter.line(f"{report.duration:.1f} s  {report.nodeid}")
