"""A filter expression: checked, compiled once, and with a limit on the cost of one evaluation. Pure.

The library limits neither time nor memory: five nested loops take minutes, and ``map`` can double a text a hundred times. So
loops may be nested twice, ``map`` is not available, and before each evaluation the cost is estimated from the size of the values
that it reads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Final

from pipeline.core.filters.tokens import FilterError, Word, closing, member_path, plain_text, words_of

MAX_LOOPS: Final = 2
MAX_PATTERN: Final = 200
_PATTERN_COST: Final = 500
"""A pattern is compiled at each match, which takes about as long as this many words."""

_LOOPS: Final = frozenset({"all", "exists", "exists_one", "filter"})
_FUNCTIONS: Final = frozenset(
    [
        "bool",
        "contains",
        "decimal",
        "double",
        "duration",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "has",
        "int",
        "matches",
        "size",
        "startsWith",
        "string",
        "timestamp",
    ]
)
_VARIABLES: Final = frozenset({"data", "event"})
_CONSTANTS: Final = frozenset({"true", "false", "null", "in"})
_FOLDED: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?")
_ERROR: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")

if TYPE_CHECKING:
    import cel

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """One expression. ``paths``: the members of ``data`` that it reads; an empty path means all of ``data``."""

    text: str
    program: cel.Program
    paths: frozenset[Path]
    words: int
    loops: int
    """How deeply loops are nested if one reads more than its own element; otherwise 0, because each element is read once."""
    literals: int

    def cost(self, values: int, longest: int) -> int:
        """The maximum steps of an evaluation that reads ``values`` values, and lists of at most ``longest`` elements."""
        rounds: int = max(longest, self.literals) ** self.loops
        return self.words * rounds * max(values, self.literals, 1)


@functools.cache
def library() -> ModuleType:
    """The library, imported when the first expression needs it: it also imports its own command line, which is half as much as
    everything else that a role imports.
    """
    import cel  # noqa: PLC0415

    return cel


@functools.lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Check and compile an expression.

    Raises:
        FilterError: it cannot be a filter.
    """
    if not text.strip():
        raise FilterError("the expression is empty.")
    try:
        program = library().compile(text)
    except Exception as error:  # noqa: BLE001 - the library's errors have no class of their own
        raise _explained(text, str(error)) from None
    words = words_of(text)
    loops = _Names(text, words).check()
    paths = frozenset(
        member_path(words, at)[0] for at, word in enumerate(words) if _is_variable(words, at) and word.text == "data"
    )
    patterns = sum(word.text == "matches" for word in words)
    joins = 1 + sum(word.text == "+" for word in words)
    if (folded := _folded(text, words)) != text:
        program = library().compile(folded)
    expression = Expression(
        text, program, paths, len(words) * joins + patterns * _PATTERN_COST, loops, sum(word.text == "," for word in words) + 1
    )
    if not any(_is_variable(words, at) for at in range(len(words))):
        raise FilterError("the expression uses neither event nor data: its result would be the same for every event.")
    return expression


def _folded(text: str, words: Sequence[Word]) -> str:
    """The text with ``decimal("100")`` replaced by its duration, which saves a callback of 5 µs at each evaluation."""
    for at in range(len(words) - 3, -1, -1):
        word, number, last = words[at], words[at + 2], words[min(at + 3, len(words) - 1)]
        if word.text == "decimal" and words[at + 1].text == "(" and last.text == ")" and (at == 0 or words[at - 1].text != "."):
            given = plain_text(number)
            if given is not None and _FOLDED.fullmatch(given):
                # Whole microseconds only: the library multiplies in floating point, which is exact up to this size.
                micros = int(Decimal(given).scaleb(6))
                text = f'{text[: word.start]}duration("{micros}us"){text[last.start + 1 :]}'
    return text


def _is_variable(words: Sequence[Word], at: int) -> bool:
    return words[at].text in _VARIABLES and words[at].kind == "name" and (at == 0 or words[at - 1].text != ".")


class _Names:
    """Checks each name of an expression: whether it is known, and how deeply nested in loops it is."""

    def __init__(self, text: str, words: Sequence[Word]) -> None:
        self._text = text
        self._words = words
        self._open: list[tuple[int, str]] = []
        """The loops around the current word: where each ends, and the name of its element."""
        self._depth = 0
        self._reads_outer = False

    def check(self) -> int:
        """How deeply loops are nested if one reads more than its own element; otherwise 0.

        Raises:
            FilterError: a name is unknown, or loops are nested too deeply.
        """
        for at, word in enumerate(self._words):
            while self._open and at >= self._open[-1][0]:
                self._open.pop()
            self._reads_outer |= len(self._open) > 1 and word.text == "["
            if word.kind == "name":
                self._check_name(at, word)
        return self._depth if self._reads_outer else 0

    def _check_name(self, at: int, word: Word) -> None:
        is_member = at > 0 and self._words[at - 1].text == "."
        if at + 1 < len(self._words) and self._words[at + 1].text == "(":
            self._function(at, word, is_member=is_member)
        elif not is_member and word.text not in _CONSTANTS:
            elements = [name for _, name in self._open]
            if word.text not in _VARIABLES and word.text not in elements:
                names = "event or data" if not elements else f"event, data or {', '.join(elements)}"
                raise FilterError(f"{word.text} is not defined here; use {names}.", self._text, word.start)
            self._reads_outer |= bool(elements) and word.text != elements[-1]

    def _function(self, at: int, word: Word, *, is_member: bool) -> None:
        if is_member and word.text in _LOOPS:
            self._loop(at, word)
        elif word.text == "map":
            raise FilterError("map is not available; use exists, all or filter.", self._text, word.start)
        elif word.text not in _FUNCTIONS:
            raise FilterError(f"there is no function {word.text}.", self._text, word.start)
        elif word.text == "matches":
            argument = self._words[at + 2 : closing(self._words, at + 1)]
            if is_member and len(argument) == 1:
                self._pattern(argument[0])
            else:
                raise FilterError(
                    'matches must be given its pattern as a text: data.number.matches("^R[0-9]+$").', self._text, word.start
                )

    def _pattern(self, word: Word) -> None:
        if word.kind != "text" or len(word.text) > MAX_PATTERN or "{" in word.text:
            message = f"a pattern must be a text of at most {MAX_PATTERN} characters, without {{…}}."
            raise FilterError(message, self._text, word.start)
        try:
            library().compile(f'"".matches({word.text})').execute({})
        except Exception:  # noqa: BLE001 - the library's errors have no class of their own
            raise FilterError("this is not a valid pattern (RE2).", self._text, word.start) from None

    def _loop(self, at: int, word: Word) -> None:
        element = self._words[at + 2]
        if element.text in _VARIABLES:
            raise FilterError(f"{element.text} cannot be the name of an element.", self._text, element.start)
        self._open.append((closing(self._words, at + 1), element.text))
        self._depth = max(self._depth, len(self._open))
        if len(self._open) > MAX_LOOPS:
            raise FilterError(f"loops can be nested {MAX_LOOPS} deep at most.", self._text, word.start)


def _explained(text: str, message: str) -> FilterError:
    """The library's first error as a sentence."""
    found = _ERROR.search(message)
    if found is None:
        return FilterError("the expression cannot be read; it may be nested too deeply.")
    line, column, finding = int(found[1]), int(found[2]), found[3]
    position = sum(len(one) + 1 for one in text.split("\n")[: line - 1]) + column - 1
    quoted = re.search(r"(?:input|at:) '(.+?)'(?: expecting|$)", finding)
    if "<EOF>'" in finding and "expecting <EOF>" not in finding:
        words = "the expression ends too early."
    elif "token recognition" in finding and quoted:
        words = f"{quoted[1][:40]} is not valid here."
    elif quoted:
        words = f"{quoted[1][:40]} was not expected here."
    elif "recursion" in finding.lower() or "depth" in finding.lower():
        words = "the expression is nested too deeply."
    else:
        words = f"{finding.removeprefix('Syntax error: ').rstrip('.')[:200]}."
    return FilterError(words, text, position)
