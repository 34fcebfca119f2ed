"""Evaluates expressions on one event. The parts of the payload that they need are extracted once, measured, and passed to the
library. Pure.

Passing a whole payload takes twenty times as long as passing the parts that expressions name, and each evaluation step copies
what it passes on. So only those parts are passed. A member that the payload lacks is also missing for the expression.
"""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from pipeline.core.filters.expression import Expression, Path, library

if TYPE_CHECKING:
    import cel

MAX_VALUES: Final = 20_000
"""The maximum number of values that an expression may read in one event; 64 characters of a text count as one."""
MAX_STEPS: Final = 1_000_000
"""The maximum number of steps of one evaluation: about a fifth of a second on a slow machine."""
_MAX_DEPTH: Final = 64
_TOO_LARGE_NUMBER: Final = "The event has a number of more than 308 digits, which filters cannot read."
_MAX_NUMBER_TEXT: Final = 40
_MAX_DIGITS: Final = 13
_PLACES: Final = 6


class FilterFault(enum.StrEnum):
    """Why an expression returned neither true nor false."""

    MISSING_FIELD = "missing_field"
    TYPE = "type"
    VALUE = "value"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    """The expression itself is invalid here: it was registered with another release."""


class EvaluationError(Exception):
    """An expression failed on an event. ``str(error)`` is a sentence without values of the event."""

    def __init__(self, fault: FilterFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class PathTree:
    """The parts of payloads that some expressions read."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.all_paths: Final = frozenset(paths)
        kept: set[Path] = set()
        for path in sorted(self.all_paths, key=len):
            if not any(path[:length] in kept for length in range(len(path) + 1)):
                kept.add(path)
        self.paths: Final = frozenset(kept)
        """No path is a prefix of another."""
        self._tree: Final[dict[str, Any]] = {}
        for path in kept:
            node = self._tree
            for name in path[:-1]:
                node = node.setdefault(name, {})
            if path:
                node[path[-1]] = None
        self.is_all: Final = () in kept

    def cut(self, payload: Any) -> Any:
        """The payload reduced to these parts."""
        return payload if self.is_all else _cut(payload, self._tree)


@dataclass(frozen=True, slots=True)
class _Size:
    values: int
    longest: int
    error: EvaluationError | None = None
    """Why no expression can read this part."""


class Evaluation:
    """One event, as the expressions of some endpoints see it. An expression is evaluated once, however many endpoints have it."""

    def __init__(self, event: Mapping[str, str], payload: Any, tree: PathTree) -> None:
        """``event``: the members of the webhook's body except ``data``. ``tree``: the paths that all of the expressions read."""
        self._event = event
        self._payload = payload
        self._tree = tree
        self._context: cel.Context | None = None
        self._sizes: dict[Path, _Size] = {}
        self._results: dict[str, bool | EvaluationError] = {}

    @property
    def count(self) -> int:
        """How many expressions were evaluated."""
        return len(self._results)

    def holds(self, expression: Expression) -> bool:
        """Whether an expression holds.

        Raises:
            EvaluationError: it gives neither true nor false.
        """
        result = self._results.get(expression.text)
        if result is None:
            try:
                result = self._evaluate(expression)
            except EvaluationError as error:
                result = error
            self._results[expression.text] = result
        if isinstance(result, EvaluationError):
            raise result
        return result

    def _evaluate(self, expression: Expression) -> bool:
        sizes = [self._size(path) for path in expression.paths]
        for size in sizes:
            if size.error is not None:
                raise size.error
        values = sum(size.values for size in sizes)
        if values > MAX_VALUES:
            raise _too_many_values()
        if expression.cost(values, max((size.longest for size in sizes), default=0)) > MAX_STEPS:
            raise EvaluationError(FilterFault.TOO_LARGE, "Evaluating the filter on an event of this size would take too long.")
        try:
            if self._context is None:
                self._context = self._converted()
            result = expression.program.execute(self._context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the library is not an Exception
            raise _explained(error, expression.text) from None
        if not isinstance(result, bool):
            raise EvaluationError(FilterFault.TYPE, f"The filter's result is {_kind(result)}, not true or false.")
        return result

    def _converted(self) -> cel.Context:
        if any(self._size(path).error is not None for path in self._tree.paths):
            # Expressions that read such a part are not evaluated; the others are, also those that read a part of that part.
            fitting = (path for path in self._tree.all_paths if self._size(path).error is None)
            part = PathTree(fitting).cut(self._payload)
        else:
            part = self._tree.cut(self._payload)
        context: cel.Context = library().Context({"event": self._event, "data": part}, {"decimal": decimal})
        return context

    def _size(self, path: Path) -> _Size:
        if path not in self._sizes:
            self._sizes[path] = _measured(_at(self._payload, path))
        return self._sizes[path]


@functools.lru_cache(maxsize=1024, typed=True)
def decimal(value: object) -> timedelta:
    """``decimal("19.90")``, to six places. The library has no decimals; a duration is as exact, and cannot be mixed with numbers.

    Raises:
        ValueError: the value is not such a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or len(text := str(value)) > _MAX_NUMBER_TEXT:
        raise ValueError("not a decimal number")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("not a decimal number") from None
    if not number.is_finite() or number.adjusted() >= _MAX_DIGITS:
        raise ValueError("not a decimal number that can be compared")
    scaled = number.scaleb(_PLACES)
    if scaled != scaled.to_integral_value():
        raise ValueError("more than six decimal places")
    return timedelta(microseconds=int(scaled))


def _cut(value: Any, tree: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: value[name] if branch is None else _cut(value[name], branch) for name, branch in tree.items() if name in value}


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return value
        if name not in value:
            return None
        value = value[name]
    return value


def _measured(value: Any) -> _Size:
    """The number of values; counting stops if there are too many."""
    values = longest = 0
    level, depth = [value], 0
    while level:
        if depth > _MAX_DEPTH:
            return _Size(values, longest, _too_many_values())
        below: list[Any] = []
        for one in level:
            values += 1
            if isinstance(one, str):
                values += len(one) // 64
            elif isinstance(one, dict | list):
                longest = max(longest, len(one))
                if values + len(one) > MAX_VALUES:
                    return _Size(values + len(one), longest, _too_many_values())
                below += one.values() if isinstance(one, dict) else one
            elif isinstance(one, int) and abs(one) > sys.float_info.max:  # the library refuses the whole event
                return _Size(values, longest, EvaluationError(FilterFault.VALUE, _TOO_LARGE_NUMBER))
        level, depth = below, depth + 1
    return _Size(values, longest, _too_many_values() if values > MAX_VALUES else None)


def _too_many_values() -> EvaluationError:
    return EvaluationError(FilterFault.TOO_LARGE, f"The filter would read more than {MAX_VALUES:,} values of the event.")


def _kind(result: object) -> str:
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object", timedelta: "a decimal"}
    return "null" if result is None else kinds.get(type(result), "something else")


def _explained(error: BaseException, text: str) -> EvaluationError:
    """The library's messages may contain values of the event, which are customers' data."""
    if isinstance(error, KeyError):
        name = str(error.args[0]).strip("'\"") if error.args else ""
        what = f"no field {name!r}" if name and name in text else "no such field"
        return EvaluationError(FilterFault.MISSING_FIELD, f"The event has {what}; check with has(…) first.")
    if isinstance(error, TypeError):
        message = "Values of different kinds were compared or combined (null, a string, a number, a decimal, an object)."
        return EvaluationError(FilterFault.TYPE, message)
    if isinstance(error, IndexError):
        return EvaluationError(FilterFault.MISSING_FIELD, "A list has fewer elements than the filter asks for.")
    if "'decimal'" in str(error):
        return EvaluationError(FilterFault.VALUE, 'decimal(…) needs a decimal number of up to six places, such as "19.90".')
    return EvaluationError(FilterFault.VALUE, "A function or a calculation cannot work with a value of the event.")
