"""The keys of a query string as a nested structure, by Rack's rules: ``q[g][0][state_eq]=failed``, ``q[sku_in][]=A``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pipeline.core.search.notes import Notes, SearchLimitError, shown

MAX_PAIRS: Final = 2_000
"""Keys below ``q``, repeated ones included."""
MAX_VALUE: Final = 20_000
"""Characters of a value."""
MAX_KEY_DEPTH: Final = 16
"""Brackets of a key: enough for the long form inside of the deepest groups."""

Node = dict[str, "Node | list[str]"]
"""Values, or more keys, by key."""

_FORM: Final = re.compile(r"q((?:\[[^\[\]]*\])+)")
_HOW: Final = "conditions look like q[order_number_eq]"


def is_filter_key(key: str) -> bool:
    """Whether a key of a query string belongs to the search. Blanks after an ``&`` mean nothing, as in Rack."""
    return key == "q" or key.lstrip().startswith("q[")


def nested(pairs: Iterable[tuple[str, str]], notes: Notes) -> Node:
    """The keys below ``q`` with their values, stripped; blank values are dropped, and noted as such.

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
            raise SearchLimitError(f"{shown(key)} has {len(value):,} characters; at most {MAX_VALUE:,} are searched for.")
        match = _FORM.fullmatch(key.strip())
        path = match[1][1:-1].split("][") if match else []
        if len(path) > MAX_KEY_DEPTH:
            raise SearchLimitError(f"{shown(key)} is nested too deeply.")
        # q[x][] is another way to write q[x] more than once.
        if path and path[-1] == "":
            path.pop()
        if not path or not _put(root, path, value):
            notes.add(key, _HOW)
    return root


def _put(node: Node, path: list[str], value: str) -> bool:
    """Put a value where its path leads; False where there is something else already."""
    for position, name in enumerate(path[:-1]):
        child = node.setdefault(_index(node, path[position + 1]) if name == "" else name, {})
        if not isinstance(child, dict):
            return False
        node = child
    values = node.setdefault(path[-1], [])
    if not isinstance(values, list):
        return False
    values.append(value)
    return True


def _index(node: Node, following: str) -> str:
    """An element of a list of hashes (``q[g][][m]``): a key that it has already begins the next one."""
    last = node.get(str(len(node) - 1))
    is_new = not isinstance(last, dict) or (following != "" and following in last and not isinstance(last[following], dict))
    return str(len(node)) if is_new else str(len(node) - 1)
