"""Mutation testing: how many small faults in the rules of the product the unit tests detect.

``make mutants MUTANTS=200``. mutmut puts the faults (mutants) into a copy of the code, ``mutants/``; the section ``tool.mutmut`` of
pyproject.toml says in which packages. Only a sample is tried, because all of them would take hours. The same seed takes the
same sample of the same code.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FIRST: Final = "pipeline.core.failing_stages.*"
"""Only a few: mutmut creates all mutants before it tries these, and that lists their names."""
_KILLED: Final = frozenset({1, 3})
_NO_TESTS: Final = frozenset({5, 33})
_SURVIVED: Final = 0


def main() -> None:
    """Try a sample; print the survivors and the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=200, help="how many to try (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--processes", type=int, default=2, help="at the same time (default: 2)")
    given = parser.parse_args()
    _mutmut(given.processes, [FIRST])
    names = sorted(_results())
    sample = random.Random(given.seed).sample(names, min(given.mutants, len(names)))
    _mutmut(given.processes, sample)
    results = _results()
    print(report({name: results[name] for name in sample}, of=len(names)))


def report(results: Mapping[str, int | None], *, of: int) -> str:
    """Return the survivors and the score: how many of the mutants that tests reach were detected. A timeout counts."""
    counts: Counter[str] = Counter(_word(code) for code in results.values())
    survivors = [f"  {name}" for name, code in sorted(results.items()) if code == _SURVIVED]
    reached = len(results) - counts["without tests"] - counts["not tried"]
    noticed = counts["killed"] + counts["timed out"]
    score = f"{100 * noticed / reached:.0f}%" if reached else "none"
    counted = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    lines = [f"{len(results)} of {of} mutants: {counted}. Score: {score}."]
    if survivors:
        lines += ["Survivors (`.venv/bin/mutmut show NAME` shows one):", *survivors]
    return "\n".join(lines)


def _word(code: int | None) -> str:
    if code is None:
        return "not tried"
    if code in _NO_TESTS:
        return "without tests"
    if code in _KILLED:
        return "killed"
    return "survived" if code == _SURVIVED else "timed out"


def _mutmut(processes: int, names: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names], cwd=ROOT, check=True)


def _results() -> dict[str, int | None]:
    """Return pytest's exit status for each mutant by name; None if it was not tried."""
    found: dict[str, int | None] = {}
    for file in sorted((ROOT / "mutants").rglob("*.meta")):
        found |= json.loads(file.read_text("utf-8"))["exit_code_by_key"]
    return found


if __name__ == "__main__":
    main()
