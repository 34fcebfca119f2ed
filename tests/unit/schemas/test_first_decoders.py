"""Several threads that read records of one class for the first time.

msgspec (0.22) crashes the process if they create its decoder at the same time: a retry ended with signal 11, half a second
after it was ready.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from msgspec import defstruct

from schemas.codec import from_json
from schemas.own_records import OwnRecord

ROOT = Path(__file__).parents[3]
CLASSES = 100
THREADS = 4


def test_threads_create_the_first_decoder_of_a_class_one_at_a_time() -> None:
    ended = subprocess.run([sys.executable, "-m", __name__], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, f"{CLASSES}\n"), ended.stderr


def main() -> None:
    """Read classes that were never read before, and print how many. Without the lock, one of them crashes."""
    sys.setswitchinterval(1e-6)
    for number in range(CLASSES):
        part = defstruct(
            "Part", [(f"p{one}", int | None, None) for one in range(20)], bases=(OwnRecord,), frozen=True, kw_only=True
        )
        record = defstruct(
            "Record", [(f"r{one}", part | None, None) for one in range(20)], bases=(OwnRecord,), frozen=True, kw_only=True
        )
        begin, read = threading.Barrier(THREADS), list[OwnRecord]()

        def go(record: type[Any] = record, begin: threading.Barrier = begin, read: list[OwnRecord] = read) -> None:
            begin.wait()
            read.append(from_json(b'{"r9": {"p9": 5}}', record))

        threads = [threading.Thread(target=go) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read == [record(r9=part(p9=5))] * THREADS, number
    print(CLASSES)


if __name__ == "__main__":
    main()
