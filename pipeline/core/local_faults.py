"""Our own faults, which are not the endpoint's (promise 9): what they are, and how to recognize them. Pure.

Some are obvious: no descriptors, no memory. An unresolved name or a missing route may be the endpoint's fault or ours:
`NameHistory` decides by whether other names work at the same time.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from pipeline.core.exchange import Exchange, NoResponse

_REMEMBERED: Final = 64
_FRESH_SECONDS: Final = 30.0
"""If another name worked within this time, the shared infrastructure works."""
_SEVERAL: Final = 3
_MAX_FAILING: Final = 1024
PARKED_IN_DOUBT: Final = 100
"""A delivery that was parked this often (about 16 hours, with the usual schedule) and still fails in a way that may be the
endpoint's fault uses up attempts from then on: no delivery is parked for ever because of its own endpoint.
"""


class LocalFault(enum.StrEnum):
    """Why this process could not send a request; these words appear in metrics and logs."""

    DESCRIPTORS = "no_descriptors"
    MEMORY = "no_memory"
    PORTS = "no_ports"
    RESOLVER = "resolver_down"
    NETWORK = "network_down"
    EGRESS_PROXY = "egress_proxy"
    UNEXPECTED = "unexpected_error"


@dataclass(frozen=True, slots=True)
class NotSent:
    """A request of which no byte left this machine, because of our own fault. ``detail`` is one sentence for the operator.

    ``otherwise`` is the result if the fault is the endpoint's after all. None: it cannot be.
    """

    fault: LocalFault
    detail: str
    otherwise: NoResponse | None = None


class NotSentError(Exception):
    """A request was not sent because of our own fault; ``str(error)`` says which."""


def with_fault_attributed(sent: Exchange | NotSent, parked: int) -> Exchange | NotSent:
    """The result of a delivery that was parked ``parked`` times. In doubt, the fault is ours until `PARKED_IN_DOUBT`."""
    if isinstance(sent, NotSent) and sent.otherwise is not None and parked >= PARKED_IN_DOUBT:
        return sent.otherwise
    return sent


class Evidence(enum.Enum):
    """What other names show about a name that failed."""

    OTHERS_WORK = enum.auto()
    """Another name worked a moment ago: the fault is this name's."""
    SEVERAL_FAIL = enum.auto()
    """Several names failed, and none has worked since the first failure: the fault is ours."""
    NONE = enum.auto()
    """There are no other names to compare with."""


class NameHistory:
    """Which names worked recently, and which failed since. ``now`` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._worked: OrderedDict[str, float] = OrderedDict()
        self._failing: set[str] = set()

    def worked(self, name: str, now: float) -> None:
        self._failing.clear()
        self._worked[name] = now
        self._worked.move_to_end(name)
        if len(self._worked) > _REMEMBERED:
            self._worked.popitem(last=False)

    def failed(self, name: str) -> None:
        if len(self._failing) < _MAX_FAILING:
            self._failing.add(name)

    def evidence(self, name: str, now: float) -> Evidence:
        """Whose fault a failure of this name is, judged by other names."""
        if any(now - at <= _FRESH_SECONDS for other, at in self._worked.items() if other != name):
            return Evidence.OTHERS_WORK
        return Evidence.SEVERAL_FAIL if len(self._failing) >= _SEVERAL else Evidence.NONE

    def latest(self, most: int) -> list[str]:
        """Names that worked, latest first."""
        return list(reversed(self._worked))[:most]
