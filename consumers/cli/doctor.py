"""``oms-webhooks doctor``: lists the problems of a setup, the most important first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import httpx
from rich.text import Text

from consumers.cli.console import Output
from consumers.cli.discovery import API_URL, NoPipelineError, local_pipeline
from consumers.cli.operate import all_findings
from pipeline.ops.reachability import CheckResult

out = Output()

_SECONDS = 10.0
_FIRST = ("Kafka", "ClickHouse")
"""Nothing works without these."""


def doctor() -> None:
    """Check the settings and the pipeline on this machine, and list the problems, most important first. The exit code is 1 if there are any."""
    found = all_findings()
    problems = {each.problem for each in found if each.problem}
    # Both look for the pipeline on this machine. If there are several and none was chosen, that is one problem, not two.
    found += [each for each in _pipeline() if each.problem not in problems]
    checked = sorted(found, key=lambda each: not each.what.startswith(_FIRST))
    wrong = [each for each in checked if each.problem]
    for number, each in enumerate(wrong, 1):
        out.print(Text.assemble((f"{number}. {each.what}: ", "bold"), each.problem or ""), soft_wrap=True)
    if not wrong:
        out.print(f"No problems found. Checked {len(checked)} things:", highlight=False)
        for each in checked:
            out.print(f"  {each.what}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1 if wrong else 0)


def _pipeline() -> Iterator[CheckResult]:
    """The health of the pipeline on this machine: of the one in OMS_WEBHOOKS_API_URL, if that is set. Empty if it does not run."""
    try:
        note = local_pipeline(os.environ.get(API_URL))
    except NoPipelineError as error:
        yield CheckResult("Pipelines on this machine", str(error))
        return
    if note is None:
        return
    name = f"The pipeline at {note.url}"
    try:
        answer = httpx.get(f"{note.url}/readyz", timeout=_SECONDS, trust_env=False).json()
    except (httpx.HTTPError, ValueError) as error:
        yield CheckResult(name, f"it is not responding ({error}). Start it again: oms-webhooks all")
        return
    if not isinstance(answer, dict) or not all(isinstance(answer.get(part, {}), dict) for part in ("problems", "warnings")):
        yield CheckResult(name, "another program is responding at this address. Start the pipeline again: oms-webhooks all")
        return
    said = [*answer.get("problems", {}).items(), *answer.get("warnings", {}).items()]
    yield from (CheckResult(f"{name}, {part}", str(problem)) for part, problem in said)
    if not said:
        yield CheckResult(name, None)
