"""Names that processes take over from each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.ops.instance_slots import claim_slot


def test_the_lowest_free_number_is_taken(tmp_path: Path) -> None:
    first, second = claim_slot("kafka", tmp_path), claim_slot("kafka", tmp_path)
    assert (first.name[-2:], second.name[-2:]) == ("-0", "-1")
    first.release()
    again = claim_slot("kafka", tmp_path)
    assert again.name == first.name
    second.release()
    again.release()


def test_deployments_do_not_interfere(tmp_path: Path) -> None:
    slots = [claim_slot(scope, tmp_path) for scope in ("kafka-1", "kafka-2")]
    assert len({slot.name for slot in slots}) == 1
    for slot in slots:
        slot.release()


def test_a_killed_process_leaves_its_name_to_the_next(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from pipeline.ops.instance_slots import claim_slot
slot = claim_slot("kafka", Path({str(tmp_path)!r}))
print(slot.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    names = {subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False).stdout for _ in range(2)}
    assert len(names) == 1
    slot = claim_slot("kafka", tmp_path)
    assert slot.name.encode() == names.pop().strip()
    slot.release()
