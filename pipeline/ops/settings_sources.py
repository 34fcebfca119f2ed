"""Where settings come from: finds names that have no effect, and the source of an invalid value."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import DotEnvSettingsSource

from pipeline.ops.event_types_file import EventTypesFileError
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import SECRETS_DIR, Settings
from pipeline.ops.settings_file import SETTINGS_FILE, read_settings_file
from schemas.validation_sentences import sentence_of

_PREFIX: Final = "OMS_WEBHOOKS_"
_NEARLY_THE_PREFIX: Final = "OMS_WEBHOOK_"
_NOT_A_FILE: Final = (
    "This is not a file, so the setting has no value. Docker creates a directory if the file to mount does not exist."
)
_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)")


def unknown_names(others: Collection[str]) -> list[CheckResult]:
    """Variables, lines of ``.env`` and secret files that are named like settings but are not settings: probably typos.

    ``others`` are the variables ``OMS_WEBHOOKS_…`` that are set but are not settings.
    """
    settings = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    variables = [*settings, SETTINGS_FILE, SECRETS_DIR, *others]
    found = [CheckResult(name, _advice(name, variables)) for name in _variables() if name not in variables]
    found += [CheckResult(name, _advice(name, variables)) for name in _named_like(_NEARLY_THE_PREFIX)]
    found += [CheckResult(f"{name} in .env", _advice(name, variables)) for name in _dotenv() if name not in variables]
    return found + _secret_findings([name.lower() for name in settings])


def _secret_findings(known: Sequence[str]) -> list[CheckResult]:
    """Secret files without effect. ``known`` are the names of files that are settings."""
    directory = Path(os.environ.get(SECRETS_DIR, ""))
    found = ((directory / name, _secret_problem(directory / name, known)) for name in _names_of_secrets())
    return [CheckResult(str(path), problem) for path, problem in found if problem is not None]


def _secret_problem(path: Path, known: Sequence[str]) -> str | None:
    """Why a file in the directory of secrets has no effect. None: it has one, or is none of ours."""
    name, full_name = path.name.lower(), f"{_PREFIX}{path.name}".lower()
    if name in known:
        return None if path.is_file() else _NOT_A_FILE
    if full_name in known:
        return f"This file has no effect; did you mean {full_name}?"
    return _advice(path.name, known) if name.upper().startswith(_PREFIX) else None


def setting_source(setting: str) -> str:
    """Where to change a setting whose value is wrong: the first source that has it."""
    variable = f"{_PREFIX}{setting.upper()}"
    if variable in _variables():
        return variable
    if variable in _dotenv():
        return f"{variable} in .env"
    file = os.environ.get(SETTINGS_FILE)
    if file and setting in read_settings_file(Path(file), Settings.model_fields):
        return f"{setting} in {file}"
    secret = next((name for name in _names_of_secrets() if name.upper() == variable), None)
    return variable if secret is None else str(Path(os.environ[SECRETS_DIR]) / secret)


def refused_values(error: ValidationError) -> list[CheckResult]:
    """The problems, by the place to change. The text of a problem with several settings names them."""
    return [
        CheckResult(setting_source(setting) if (setting := _setting_of(each)) else "", sentence_of(each))
        for each in error.errors(include_url=False, include_input=False)
    ]


def _setting_of(finding: ErrorDetails) -> str:
    """The setting with a problem; empty if there are several. The file of event types is read when all settings are known."""
    if isinstance(finding.get("ctx", {}).get("error"), EventTypesFileError):
        return "event_types_file"
    return str(finding["loc"][0]) if finding["loc"] else ""


def _advice(name: str, known: Sequence[str]) -> str:
    # Without the common prefix, which would make any two names similar.
    stems = {one[len(_PREFIX) :]: one for one in known}
    stem = name[len(_PREFIX if name.upper().startswith(_PREFIX) else _NEARLY_THE_PREFIX) :]
    near = difflib.get_close_matches(stem, stems, n=1)
    return "This is not a setting and has no effect" + (f"; did you mean {stems[near[0]]}?" if near else ".")


def _variables() -> list[str]:
    return _named_like(_PREFIX)


def _named_like(prefix: str) -> list[str]:
    """Environment variables in upper case (case does not matter), without those of a Kubernetes Service ``oms-webhooks-…``."""
    return [
        name.upper()
        for name, value in os.environ.items()
        if name.upper().startswith(prefix) and not _SERVICE_LINK.search(name) and not value.startswith(("tcp://", "udp://"))
    ]


def _dotenv() -> list[str]:
    return [name.upper() for name in DotEnvSettingsSource(Settings).env_vars if name.upper().startswith(_PREFIX)]


def _names_of_secrets() -> list[str]:
    directory = os.environ.get(SECRETS_DIR)
    return sorted(os.listdir(directory)) if directory else []  # noqa: PTH208 - names are what is compared
