"""docs/code.md shows the code as it is."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

from consumers.fanout import FanOut
from pipeline.delivery.delivery_service import DeliveryService

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "code.md").read_text("utf-8")


def test_the_path_of_an_event_shows_the_real_functions() -> None:
    for step in (
        FanOut.plan,
        DeliveryService.deliver,
        DeliveryService.outcome,
        DeliveryService._attempt_if_admitted,
        DeliveryService._attempt,
        DeliveryService.settle,
    ):
        assert textwrap.dedent(inspect.getsource(step)).strip() in PAGE


def test_every_named_file_exists() -> None:
    named = set(re.findall(r"`((?:consumers|pipeline|schemas|tests|deploy)/[\w./-]*)`", PAGE))
    assert len(named) > 30
    wanted = {"schemas/samples/order_returned.json"}
    """It is what the reader adds."""
    assert not [path for path in named - wanted if not (ROOT / path).exists()]


def test_every_named_class_and_function_exists() -> None:
    for name, path in re.findall(r"`([\w.]+)`(?:, `[\w.]+`)? in `([\w/]+\.py)`", PAGE):
        text = (ROOT / path).read_text("utf-8")
        short = re.escape(name.rsplit(".", 1)[-1])
        assert re.search(rf"^\s*(?:(?:async )?(?:class|def) {short}\b|{short}(?:: .*?)? = )", text, re.MULTILINE), (name, path)
