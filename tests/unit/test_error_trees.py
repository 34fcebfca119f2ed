"""The docstring of each root of errors shows the whole tree, so that a reader sees at once what can be caught."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_root_shows_its_tree() -> None:
    bases: dict[str, list[str]] = {}
    docstrings: dict[str, str] = {}
    for package in ("schemas", "pipeline", "consumers"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_"):
                    bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    docstrings[node.name] = ast.get_docstring(node) or ""
    trees = defaultdict(set)
    for name in bases:
        root = name
        while parents := [base for base in bases[root] if base in bases]:
            root = parents[0]
        if root != name:
            trees[root].add(name)
    assert len(trees) > 4
    missing = {root: sorted(name for name in names if name not in docstrings[root]) for root, names in trees.items()}
    assert not any(missing.values()), missing
