"""The W3C trace context of an event: read from a record's headers, and sent to the receivers. Pure; hostile values are dropped.

What is read here becomes an HTTP header, so only values in the specification's grammar are accepted: no line break gets into a
request. Invalid values are treated as missing and never block an event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

# Lower case only. A later version may add parts after a hyphen; the first four are as in version 00.
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-[\x21-\x7e]*)?"
)
_MAX_TRACEPARENT: Final = 512
_SAMPLED: Final = 1
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

_MAX_TRACESTATE: Final = 512
_MAX_MEMBERS: Final = 32
_MEMBER: Final = re.compile(
    r"[ \t]*(?P<key>[a-z0-9][a-z0-9_*/-]{0,240}(?:@[a-z][a-z0-9_*/-]{0,13})?)"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e][ \t]*"
)


class TraceContext(NamedTuple):
    """A place in a trace: both fields as they are written in headers; ``tracestate`` may be empty."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, the same for everything that follows from one event."""
        return self.traceparent[3:35]

    @property
    def is_sampled(self) -> bool:
        """Whether the sender that started the trace records it."""
        return bool(int(self.traceparent[53:55], 16) & _SAMPLED)

    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        if self.tracestate:
            return {TRACEPARENT: self.traceparent, TRACESTATE: self.tracestate}
        return {TRACEPARENT: self.traceparent}


def read_trace(headers: Sequence[tuple[str, bytes | None]]) -> TraceContext | None:
    """The trace context in a record's headers. If a header occurs several times, the last one counts, as in Kafka's clients."""
    parent = state = None
    for name, value in headers:
        if name == TRACEPARENT:
            parent = value
        elif name == TRACESTATE:
            state = value
    return None if parent is None else trace_context(_text(parent), _text(state))


def trace_context(traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
    """Two headers as a trace context; None if the first is missing or invalid. An invalid second one is left out."""
    if not traceparent or len(traceparent) > _MAX_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or found["trace"] == _NO_TRACE or found["span"] == _NO_SPAN or found["version"] == "ff":
        return None
    if found["version"] != "00":  # the known part of a later version, as the specification requires it to be passed on
        flags = int(found["flags"], 16) & _SAMPLED
        traceparent = f"00-{found['trace']}-{found['span']}-{flags:02x}"
    elif found["rest"] is not None:
        return None
    return TraceContext(traceparent, tracestate if tracestate and _is_tracestate(tracestate) else "")


def exemplar(trace: TraceContext | None) -> dict[str, str] | None:
    """The exemplar of an observation, which links a dashboard to its trace; None if the trace is not recorded."""
    return {"trace_id": trace.trace_id} if trace is not None and trace.is_sampled else None


def _text(value: bytes | None) -> str | None:
    # A header's value may be null in Kafka. Text that is not ASCII is invalid here.
    return value.decode("ascii", "replace") if value is not None and len(value) <= _MAX_TRACEPARENT else None


def _is_tracestate(text: str) -> bool:
    if len(text) > _MAX_TRACESTATE:
        return False
    members = [member for member in text.split(",") if member.strip(" \t")]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in found if match is not None}
    return 0 < len(keys) == len(members) <= _MAX_MEMBERS
