"""The predicates of the ransack grammar, and how a condition's name is split into attributes and a predicate."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from pipeline.core.search.attributes import ATTRIBUTES, Kind, canonical
from pipeline.core.search.problems import NeverHoldsError, NotUsableError, shown


class Predicate(enum.StrEnum):
    """How an attribute is compared with the values.

    ``cont``, ``start``, ``end`` and ``matches`` ignore case, as in ransack. A ``not_…`` (and ``does_not_match``) is the opposite
    of its positive, so it also holds for rows without a value.
    """

    EQ = "eq"
    NOT_EQ = "not_eq"
    IN = "in"
    NOT_IN = "not_in"
    MATCHES = "matches"
    DOES_NOT_MATCH = "does_not_match"
    CONT = "cont"
    NOT_CONT = "not_cont"
    I_CONT = "i_cont"
    NOT_I_CONT = "not_i_cont"
    START = "start"
    NOT_START = "not_start"
    END = "end"
    NOT_END = "not_end"
    GT = "gt"
    GTEQ = "gteq"
    LT = "lt"
    LTEQ = "lteq"
    TRUE = "true"
    NOT_TRUE = "not_true"
    FALSE = "false"
    NOT_FALSE = "not_false"
    PRESENT = "present"
    BLANK = "blank"
    NULL = "null"
    NOT_NULL = "not_null"


class Quantifier(enum.StrEnum):
    """``_any`` or ``_all`` after a predicate: each value is a separate condition, and one or all of them must hold."""

    ANY = "any"
    ALL = "all"


INVERSE: Final = {
    Predicate.TRUE: Predicate.NOT_TRUE,
    Predicate.NOT_TRUE: Predicate.TRUE,
    Predicate.FALSE: Predicate.NOT_FALSE,
    Predicate.NOT_FALSE: Predicate.FALSE,
    Predicate.PRESENT: Predicate.BLANK,
    Predicate.BLANK: Predicate.PRESENT,
    Predicate.NULL: Predicate.NOT_NULL,
    Predicate.NOT_NULL: Predicate.NULL,
}
"""The predicates that take yes or no, and their opposites for no."""

POSITIVE: Final = {
    Predicate.NOT_EQ: Predicate.EQ,
    Predicate.NOT_IN: Predicate.IN,
    Predicate.DOES_NOT_MATCH: Predicate.MATCHES,
    Predicate.NOT_CONT: Predicate.CONT,
    Predicate.NOT_I_CONT: Predicate.I_CONT,
    Predicate.NOT_START: Predicate.START,
    Predicate.NOT_END: Predicate.END,
    Predicate.NOT_TRUE: Predicate.TRUE,
    Predicate.NOT_FALSE: Predicate.FALSE,
    Predicate.BLANK: Predicate.PRESENT,
    Predicate.NULL: Predicate.NOT_NULL,
}
"""Each negation with its opposite."""

LISTS: Final = frozenset({Predicate.IN, Predicate.NOT_IN})
ORDER: Final = frozenset({Predicate.GT, Predicate.GTEQ, Predicate.LT, Predicate.LTEQ})
_PATTERNS: Final = frozenset(
    {
        *(Predicate.CONT, Predicate.NOT_CONT, Predicate.I_CONT, Predicate.NOT_I_CONT, Predicate.START, Predicate.NOT_START),
        *(Predicate.END, Predicate.NOT_END, Predicate.MATCHES, Predicate.DOES_NOT_MATCH),
    }
)
_BOOLEAN: Final = frozenset({Predicate.TRUE, Predicate.NOT_TRUE, Predicate.FALSE, Predicate.NOT_FALSE})
_EQUALITY: Final = frozenset({Predicate.EQ, Predicate.NOT_EQ, *LISTS, *INVERSE}) - _BOOLEAN

PREDICATES: Final[dict[Kind, frozenset[Predicate]]] = {
    Kind.INTEGER: _EQUALITY | ORDER,
    Kind.NUMBER: _EQUALITY | ORDER,
    Kind.TIME: _EQUALITY | ORDER,
    Kind.STATE: _EQUALITY,
    Kind.BOOLEAN: _EQUALITY | _BOOLEAN,
    Kind.TEXT: _EQUALITY | ORDER | _PATTERNS,
    Kind.TEXTS: _EQUALITY | _PATTERNS,
    Kind.BODY: _EQUALITY | _PATTERNS,
}

_FORMS: Final[dict[str, tuple[Predicate, Quantifier | None]]] = {
    **{predicate.value: (predicate, None) for predicate in Predicate},
    **{
        f"{predicate.value}_{quantifier.value}": (predicate, quantifier)
        for predicate in Predicate
        if predicate not in INVERSE
        for quantifier in Quantifier
    },
}
# The longest suffix wins: order_number_not_eq is not_eq of order_number.
_BY_LENGTH: Final = sorted(_FORMS, key=len, reverse=True)
_COMBINATOR: Final = re.compile(r"_(and|or)_")


@dataclass(frozen=True, slots=True)
class Name:
    """A name such as ``order_number_or_shipment_number_eq_any``, split."""

    attributes: tuple[str, ...]
    is_any_attribute: bool
    predicate: Predicate
    quantifier: Quantifier | None


def split_name(name: str) -> Name:
    """Split the name of a condition.

    Raises:
        NotUsableError: it is not one.
    """
    form = next((one for one in _BY_LENGTH if name.endswith(f"_{one}")), None)
    if form is None:
        raise NotUsableError("it does not end in a predicate such as _eq")
    stem = name.removesuffix(f"_{form}")
    combinators = set(_COMBINATOR.findall(stem))
    if len(combinators) > 1:
        raise NeverHoldsError("it may combine attributes with _or_ or with _and_, not with both")
    return make_name(_COMBINATOR.split(stem)[::2], form, is_any_attribute="or" in combinators)


def make_name(attributes: list[str], form: str, *, is_any_attribute: bool) -> Name:
    """Check that attributes and a predicate fit together.

    Raises:
        NotUsableError: attempts have no such attribute, or there is no such predicate.
        NeverHoldsError: they do not fit together.
    """
    if form not in _FORMS:
        raise NotUsableError(f"there is no predicate {shown(form)}")
    predicate, quantifier = _FORMS[form]
    known = []
    for attribute in map(canonical, attributes):
        if attribute not in ATTRIBUTES:
            raise NotUsableError(f"attempts have no attribute {shown(attribute)}")
        if predicate not in PREDICATES[ATTRIBUTES[attribute]]:
            raise NeverHoldsError(f"{predicate.value} does not work with {ATTRIBUTES[attribute].value}")
        known.append(attribute)
    return Name(tuple(dict.fromkeys(known)), is_any_attribute, predicate, quantifier)
