"""An attempt as a curl command, to try it by hand. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

_MAX_BODY: Final = 8_000
"""Characters; a longer body is read from a file."""
# curl sets these itself.
_LEFT_OUT: Final = frozenset({"host", "content-length", "connection", "accept-encoding"})


def curl(url: str, headers: Mapping[str, str], body: str | None) -> str:
    """The command, to be pasted into a shell. Redacted values stay redacted. A hidden or long body is read from ``body.json``."""
    parts = ["curl --request POST"]
    parts += [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in headers.items() if name.lower() not in _LEFT_OUT]
    inline = body is not None and len(body) <= _MAX_BODY and "\0" not in body
    parts.append(f"--data-raw {shlex.quote(body)}" if inline and body is not None else "--data-binary @body.json")
    # After --, so that the URL is never read as an option.
    return " \\\n  ".join([*parts, f"-- {shlex.quote(url)}"])
