"""Files and functions are small enough to be read at once (CONTRIBUTING.md, "Style"). What is larger is listed, and nothing is added."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 40
LARGER_FILES = 33
"""How many files are larger. Most of them describe one thing: the settings, a client of Kafka, the commands of a group."""
LARGER_FUNCTIONS = {
    "specs": "a table of topics",
    "make_api": "one call with a keyword for each part of the API",
    "__init__": "attributes with their descriptions",
    "publish": "options with their help, which is also the documentation",
    "_transports": "two small classes that share a client",
    "_walk": "one loop over windows, whose steps share their state",
    "configure_logs": "one call with the processors of structlog",
    "simulate": "one loop with its cleanup",
}


def product_files() -> Iterator[Path]:
    for package in ("schemas", "pipeline", "consumers"):
        yield from (ROOT / package).rglob("*.py")


def test_the_number_of_large_files_does_not_grow() -> None:
    large = [file.name for file in product_files() if len(file.read_text().splitlines()) > MOST_LINES_OF_A_FILE]
    assert len(large) <= LARGER_FILES, sorted(large)


def test_large_functions_are_listed_with_the_reason() -> None:
    """It takes a second or two: the whole product is parsed."""
    large = {
        node.name
        for file in product_files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_LINES_OF_A_FUNCTION
    }
    assert large == LARGER_FUNCTIONS.keys()
