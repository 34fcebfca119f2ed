"""The files under deploy/ and the tools that check them. A missing tool fails the test; nothing is skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
RULES = DEPLOY / "prometheus" / "rules.yml"
RULE_TESTS = DEPLOY / "prometheus" / "rules_test.yml"


def tool(name: str, where_from: str) -> str:
    """Return the path of a program: in var/tools, next to Python, or on the PATH."""
    nearby = [path for path in (ROOT / "var" / "tools" / name, Path(sys.executable).with_name(name)) if path.exists()]
    found = str(nearby[0]) if nearby else shutil.which(name)
    assert found is not None, f"`{name}` is not installed: {where_from}"
    return found


def run(command: Sequence[str | Path], cwd: Path | None = None, seconds: float = 100) -> subprocess.CompletedProcess[str]:
    """Run a program to completion."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=seconds)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's own checker."""
    # Its rule tests take half a minute of CPU, which is minutes on a busy machine.
    return run([tool("promtool", "apt-get install prometheus"), *arguments], seconds=900)


def rules(kind: str) -> list[dict[str, Any]]:
    """Return the rules of a kind: ``alert`` or ``record``."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if kind in rule]


def documents(text: str) -> list[dict[str, Any]]:
    """Return the YAML documents of a text."""
    return [document for document in yaml.safe_load_all(text) if document]


def nested(value: Any, key: str) -> Iterator[Any]:
    """Return every value of a key, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from nested(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from nested(inner, key)
