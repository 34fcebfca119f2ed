"""The product imports only declared packages: one that only a test tool installs would be missing in production."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from importlib.metadata import files, packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("schemas", "pipeline", "consumers")
IMPORT = re.compile(r"^\s*(?:from\s+(\w+)[\w.]*\s+import\b|import\s+([\w., ]+))", re.MULTILINE)
KNOWN = sys.stdlib_module_names | set(OURS)
BUILT_DOCS = ROOT / "pipeline/web/site"
"""What `make docs` writes: pages, and the documentation's examples, which run elsewhere."""


def names_of(text: str) -> Iterator[str]:
    """Yield the packages of everything that looks like an import."""
    for package, several in IMPORT.findall(text):
        yield from [package] if package else re.findall(r"(?:^|,)\s*(\w+)", several)


def imported() -> Iterator[tuple[str, str]]:
    """Yield each imported package, and where it is imported."""
    for package in OURS:
        for file in (ROOT / package).rglob("*.py"):
            if file.is_relative_to(BUILT_DOCS):
                continue
            text = file.read_text()
            # Parsing all files takes two seconds of CPU; most import only our own packages or Python's.
            if all(name in KNOWN for name in names_of(text)):
                continue
            for node in ast.walk(ast.parse(text)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in names:
                    yield name.split(".")[0], file.relative_to(ROOT).as_posix()


def test_imported_packages_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # pydantic-core belongs to pydantic: its errors have no other name.
    required = project["dependencies"] + extras["embedded"] + extras["tracing"] + extras["librdkafka"]
    declared = {"pydantic-core"} | {re.split(r"[<>=;\[ ]", one)[0].lower().replace("_", "-") for one in required}
    distributions = packages_distributions()
    found = {
        (name, file)
        for name, file in imported()
        if name not in sys.stdlib_module_names
        and name not in OURS
        and not {one.lower().replace("_", "-") for one in distributions.get(name, ["?"])} & declared
    }
    assert not found, "add it to pyproject.toml, or do without it"


def test_the_package_of_chdb_that_loads_it_was_installed_last() -> None:
    """chdb's own file loads the engine in such a way that its symbols do not clash with those of other libraries."""
    found = next(file for file in files("chdb") or () if file.as_posix() == "chdb/__init__.py")
    assert found.hash is not None
    content = Path(str(found.locate())).read_bytes()
    digest = urlsafe_b64encode(hashlib.new(found.hash.mode, content).digest()).decode().rstrip("=")
    assert digest == found.hash.value, "run make clean, and install again"
