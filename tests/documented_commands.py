"""The commands in the documentation: blocks that are marked ``sh``.

`tests/operations/test_runbook.py` runs those of some pages against a deployment, `tests/integration/test_documented_commands.py` those
of all others against the demo. A block that is marked ``shell`` needs Docker, Kubernetes, or Kafka's own tools, and is not run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
OF_A_DEPLOYMENT: Final = ("runbook.md", "day-two.md", "operations.md")


def page_text(page: str) -> str:
    """A page of the documentation, or ``README.md``."""
    return (ROOT / page if page == "README.md" else ROOT / "docs" / page).read_text("utf-8")


def pages() -> list[str]:
    """All of them."""
    return ["README.md", *sorted(path.name for path in (ROOT / "docs").glob("*.md"))]


def command_blocks(page: str) -> list[str]:
    """The blocks of a page, in their order."""
    return re.findall(r"^ *```sh\n(.*?)^ *```$", page_text(page), flags=re.MULTILINE | re.DOTALL)
