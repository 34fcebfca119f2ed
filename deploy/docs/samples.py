"""Hooks of mkdocs, which add the sample events of the code to the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SAMPLES = Path("schemas/samples")
_LINK = "../schemas/samples/"


def on_files(files: Any, *, config: Any) -> Any:
    """Add the samples."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - available when mkdocs runs this

    for sample in sorted(_SAMPLES.glob("*.json")):
        files.append(File.generated(config, f"samples/{sample.name}", content=sample.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links at them."""
    return markdown.replace(_LINK, "samples/")
