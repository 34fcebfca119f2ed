"""The keys of a query string as a nested structure, by Rack's rules: ``q[g][0][state_eq]=failed``, ``q[sku_in][]=A``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pipeline.core.search.problems import SearchLimitError, SearchNotes, shown

MAX_PAIRS: Final = 2_000
"""The maximum keys below ``q``, including repeated ones."""
MAX_VALUE: Final = 20_000
"""The maximum characters of a value."""
MAX_KEY_DEPTH: Final = 16
"""The maximum brackets of a key: enough for the long form inside the deepest groups."""

Node = dict[str, "Node | list[str]"]
"""Values, or more keys, by key."""

_FORM: Final = re.compile(r"q((?:\[[^\[\]]*\])+)")
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_TWICE: Final = "only the last value counts, {} was left out; several are written with []"
_HOW: Final = "write conditions as q[order_number_eq]"


def is_filter_key(key: str) -> bool:
    """Whether a key of a query string belongs to the search. Spaces after an ``&`` are ignored, as in Rack."""
    return key == "q" or key.lstrip().startswith("q[")


def nested(pairs: Iterable[tuple[str, str]], notes: SearchNotes) -> Node:
    """The keys below ``q`` with their values, stripped; blank values are dropped and noted.

    Raises:
        SearchLimitError: there are too many, a value is too long, or a key is nested too deeply.
    """
    root: Node = {}
    count = 0
    for key, text in pairs:
        count += 1
        if count > MAX_PAIRS:
            raise SearchLimitError(f"A search has at most {MAX_PAIRS:,} filters and values; leave some out, or search twice.")
        value = text.strip()
        if not value:
            notes.add_blank(key)
            continue
        if len(value) > MAX_VALUE:
            raise SearchLimitError(f"{shown(key)} has {len(value):,} characters; at most {MAX_VALUE:,} are allowed.")
        match = _FORM.fullmatch(key.strip())
        path = match[1][1:-1].split("][") if match else []
        if len(path) > MAX_KEY_DEPTH:
            raise SearchLimitError(f"{shown(key)} is nested too deeply.")
        replaced = _put(root, path, value) if path and path != [""] else None
        if replaced is None:
            notes.add(key, _HOW)
        for lost in replaced or ():
            notes.add(key, _TWICE.format(shown(lost)))
    return root


def elements(node: Node | list[str]) -> list[str] | None:
    """The texts of a list: ``q[x][]=A&q[x][]=B`` or ``q[x][0]=A&q[x][1]=B``, by their numbers; None if it contains anything else."""
    if isinstance(node, list):
        return node
    numbered = [(int(key), child) for key, child in node.items() if _NUMBER.fullmatch(key) and isinstance(child, list)]
    if len(numbered) < len(node):
        return None
    return [child[-1] for _, child in sorted(numbered, key=lambda one: one[0])]


def _put(node: Node, path: list[str], value: str) -> list[str] | None:
    """Put a value at its path; None if there is something else already.

    ``q[x][]`` is a list; if ``q[x]`` is given several times, the last one counts, as in Rack. Returns the replaced values.
    """
    *parents, last = path if path[-1] else path[:-1]
    for position, name in enumerate(parents):
        child = node.setdefault(_index(node, path[position + 1]) if name == "" else name, {})
        if not isinstance(child, dict):
            return None
        node = child
    values = node.get(last, [])
    if last == "" or isinstance(values, dict):
        return None
    node[last] = [value] if path[-1] else [*values, value]
    return values if path[-1] else []


def _index(node: Node, following: str) -> str:
    """An element of a list of hashes (``q[g][][m]``): a key that the current one already has starts the next one."""
    last = node.get(str(len(node) - 1))
    is_new = not isinstance(last, dict) or (following != "" and following in last and not isinstance(last[following], dict))
    return str(len(node)) if is_new else str(len(node) - 1)
