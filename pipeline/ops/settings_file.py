"""A settings file in TOML: ``OMS_WEBHOOKS_SETTINGS_FILE`` names it, ``oms-webhooks settings --toml`` writes one.

Its keys are the names of the settings. A variable takes precedence over the file. Lists are arrays, or comma-separated as in
variables.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic_settings import SettingsError

SETTINGS_FILE: Final = "OMS_WEBHOOKS_SETTINGS_FILE"


def read_settings_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings in a file.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or has a key that is not a setting (a typo would keep a default).
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{SETTINGS_FILE} names {path}, which cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{SETTINGS_FILE} names {path}, which is not TOML: {error}.") from error
    if unknown := sorted(set(content) - set(known)):
        message = f"{path} has unknown settings: {', '.join(unknown)}. `oms-webhooks settings` lists them; there are no sections."
        raise SettingsError(message)
    return {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in content.items()}


def as_toml(shown: Mapping[str, str], descriptions: Mapping[str, str], secrets: Collection[str], changed: Collection[str]) -> str:
    """A file with every setting and its description. Settings that are not ``changed`` are comments, and so are secrets (empty)."""
    parts = [
        "# Settings of OMS webhooks. A variable OMS_WEBHOOKS_… takes precedence over its line here. Keep secrets in separate files."
    ]
    for name, value in shown.items():
        meaning = textwrap.fill(descriptions[name], 120, initial_indent="# ", subsequent_indent="# ")
        # A JSON string is a TOML string.
        line = f"{name} = {json.dumps('' if name in secrets else value, ensure_ascii=False)}"
        parts.append(f"{meaning}\n{line if name in changed and name not in secrets else f'# {line}'}")
    return "\n\n".join(parts) + "\n"
