"""One name, one meaning: no two public classes share a name, so a reader learns each only once."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PUBLIC_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for package in ("schemas", "pipeline", "consumers"):
        for file in (ROOT / package).rglob("*.py"):
            for name in PUBLIC_CLASS.findall(file.read_text()):
                places[name].append(file.relative_to(ROOT).as_posix())
    twice = {name: sorted(files) for name, files in places.items() if len(files) > 1}
    assert len(places) > 300
    assert not twice
