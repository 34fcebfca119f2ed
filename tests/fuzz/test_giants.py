"""The largest allowed input of the most expensive kinds: each in its own process, bounded in CPU time and memory.

Neither CPU time nor the process's own peak memory depends on how busy the machine is. On the clock, each takes a second or more.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from schemas.codec import MAX_METADATA_BYTES
from schemas.event_codec import decode_event
from tests.fuzz.properties import MAX_EVENT_BYTES, RECORDS, check_event, check_finished, check_pairs, check_record
from tests.unit.core.equality_oracle import accepts
from tests.unit.sample_events import GOLDEN, HEAD, event

_SECONDS: Final = 12.0
"""Most take a tenth of a second; before they were bounded, some took minutes."""
_MEGABYTES: Final = 700


def _full(before: str, repeated: str, after: str, *, head: str = HEAD, most: int = MAX_EVENT_BYTES) -> bytes:
    """Return an event whose payload is filled up with repetitions."""
    room = most - len(event(before + after, head=head))
    return event(before + repeated * (room // len(repeated)) + after, head=head)


def _record(name: str, before: str, repeated: str) -> Callable[[], object]:
    value = (GOLDEN / f"{name}.v1.json").read_bytes().strip()
    assert value.count(before.encode()) == 1
    room = MAX_METADATA_BYTES - len(value)
    filled = value.replace(before.encode(), before.encode() + repeated.encode() * (room // len(repeated)))
    return lambda: check_record(name, filled)


def _filtered() -> None:
    payload = decode_event(_full('{"number":"R1","x":[', "{},", "{}]}"), max_bytes=MAX_EVENT_BYTES).payload()
    assert not accepts({f"x.{number}": ("a",) * 100 for number in range(50)}, payload | {"x": [{"0": 1}, *payload["x"]]})


SHIPMENT = HEAD.replace("order_completed", "shipment_shipped")
STOCK = HEAD.replace("order_completed", "stock_item_out_of_stock")
GIANTS: Final[dict[str, Callable[[], object]]] = {
    "empty shipments": lambda: check_event(_full('{"number":"R1","shipments":[', "{},", "{}]}")),
    "shipments that are none": lambda: check_event(_full('{"number":"R1","shipments":[', "1,", "1]}")),
    "line items": lambda: check_event(_full('{"number":"R1","line_items":[', '{"variant":{}},', "1]}")),
    "manifest": lambda: check_event(_full('{"number":"H1","manifest":[', "{},", "1]}", head=SHIPMENT)),
    "tokens": lambda: check_event(_full('{"number":"R1"', ',"token":1', "}")),
    "tokens inside": lambda: check_event(_full('{"number":"R1","x":[', '{"token":1},', "1]}")),
    "tokens in a string": lambda: check_event(_full('{"number":"R1","x":"', '\\"token\\":', '"}')),
    "escapes": lambda: check_event(_full('{"number":"R1","x":"', "\\u0074", '"}')),
    "a long string": lambda: check_event(_full('{"number":"R1","x":"', "x", '"}')),
    "a long number": lambda: check_event(_full('{"number":"R1","x":', "9", "}")),
    "a long id": lambda: check_event(_full('{"id":', "9", "}", head=STOCK)),
    "a long fraction": lambda: check_event(_full('{"number":"R1","x":0.', "1", "}")),
    "long numbers": lambda: check_event(_full('{"number":"R1","x":[', "9" * 4000 + ",", "1]}")),
    "deep lists": lambda: check_event(b"[" * MAX_EVENT_BYTES),
    "deep objects": lambda: check_event(b'{"a":' * (MAX_EVENT_BYTES // 5)),
    "a deep payload": lambda: check_event(_full('{"number":"R1","x":', "[", "}")),
    "an envelope of many members": lambda: check_event(b"{" + b'"x":1,' * 1_000_000 + event()[1:]),
    "filters over millions of elements": _filtered,
    "response headers": _record("attempt", '"response_headers":[', "1,"),
    "request headers": _record("attempt", '"request_headers":{', '"":1,'),
    "endpoint ids": _record("dispatch", '"endpoint_ids":[', "{},"),
    "secrets": _record("endpoint", '"secrets":[', "1,"),
    "filters": _record("endpoint", '"filters":{', '"":1,'),
    "filter values": _record("endpoint", '"channel":[', "{},"),
    "an unknown member": _record("endpoint", '"secrets":[', '{"sealed":"x","y":[[],{}]},'),
    **{f"a {name} that is too large": (lambda name=name: check_record(name, b"[" * 16_000_000)) for name in RECORDS},  # type: ignore[misc]
    "finished offsets": lambda: check_finished(0, "1;" + ",".join(["0,999999999"] * 300)),
    "conditions": lambda: check_pairs([(f"q[order_number_{number}_eq]", "x") for number in range(10_000)]),
    "conditions that hold": lambda: check_pairs([("q[order_number_in][]", f"R{number}") for number in range(10_000)]),
    "groups": lambda: check_pairs([("q" + "[g][0]" * number + "[c][0][p]", "eq") for number in range(1000)]),
    "a deep group": lambda: check_pairs([("q" + "[g][0]" * 100_000 + "[m]", "or"), ("q" + "[" * 1_000_000, "1")]),
    "a long name": lambda: check_pairs([("q[" + "_or_".join(["order_number"] * 50_000) + "_eq]", "1")]),
    "a long value": lambda: check_pairs([("q[request_body_cont]", "%_\\" * 300_000), ("q[created_at_gt]", "2" * 1_000_000)]),
    "sorts": lambda: check_pairs([("q[s][]", "created_at desc")] * 10_000),
}


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_takes_bounded_time_and_memory(name: str) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_giants", name], cwd=root, capture_output=True, text=True, check=False, timeout=110
    )

    assert done.returncode == 0, done.stderr[-3000:]
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < _SECONDS
    assert megabytes < _MEGABYTES


if __name__ == "__main__":
    # A runaway process ends here, before it takes the machine down.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    began = time.process_time()
    GIANTS[sys.argv[1]]()
    print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
