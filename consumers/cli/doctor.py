"""``oms-webhooks doctor``: lists the problems of a setup, the most important first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import httpx
from rich.text import Text

from consumers.cli import json_answers
from consumers.cli.api_check import api_findings
from consumers.cli.console import Output
from consumers.cli.discovery import API_KEY, API_URL, NoPipelineError, local_pipeline
from consumers.cli.operate import NO_KAFKA, all_findings
from consumers.cli.option_values import AsPlainJson
from consumers.cli.runtime_files import RunNote
from pipeline.core.counted import counted
from pipeline.ops.reachability import CheckResult

out = Output()

_SECONDS = 10.0
_FIRST = ("Kafka", "ClickHouse")
"""Nothing works without these."""


def doctor(as_json: AsPlainJson = False) -> None:
    """Check the settings, the pipeline on this machine, and the API that commands use, and list the problems, most important first.

    The API is the one in OMS_WEBHOOKS_API_URL, or that of the pipeline on this machine. The exit code is 1 if there are problems.
    """
    found, of_api = _findings()
    first = [each for each in found if each.what.startswith(_FIRST)]
    checked = [*first, *of_api, *(each for each in found if each not in first)]
    wrong = [each for each in checked if each.problem]
    if as_json:
        out.print_data(json_answers.findings([*wrong, *(each for each in checked if not each.problem)]))
        sys.exit(1 if wrong else 0)
    for number, each in enumerate(wrong, 1):
        out.print(Text.assemble((f"{number}. {each.what}: ", "bold"), each.problem or ""), soft_wrap=True)
    if wrong:
        for each in of_api:
            if not each.problem:
                out.print(f"{each.what}.", markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(f"No problems found. Checked {counted(len(checked), 'thing')}:", highlight=False)
        for each in checked:
            out.print(f"  {each.what}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1 if wrong else 0)


def _findings() -> tuple[list[CheckResult], list[CheckResult]]:
    """The findings about the settings and the pipeline on this machine, and those about the API."""
    url, api_key = os.environ.get(API_URL), os.environ.get(API_KEY)
    found = all_findings()
    try:
        note = local_pipeline(url)
    except NoPipelineError as error:
        # Both look for the pipeline on this machine. If there are several and none was chosen, that is one problem, not two.
        is_said = any(each.problem == str(error) for each in found)
        return found + ([] if is_said else [CheckResult("Pipelines on this machine", str(error))]), []
    if note is None:
        # Whoever uses a remote API needs no Kafka here.
        return [each for each in found if not (url and each.what == NO_KAFKA)], list(api_findings(url, api_key, note))
    health = list(_health(note))
    # If it does not respond, that is one problem, not two.
    is_there = not any(each.what == _named(note) and each.problem for each in health)
    return found + health, list(api_findings(url, api_key, note)) if is_there else []


def _named(note: RunNote) -> str:
    return f"The pipeline at {note.url}"


def _health(note: RunNote) -> Iterator[CheckResult]:
    """The health of a pipeline on this machine."""
    name = _named(note)
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
