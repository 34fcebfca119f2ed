"""Coverage-guided fuzzing with atheris: each target in its own process, bounded in time and memory.

    python tests/fuzz/run.py --seconds 600 --target event

Inputs that reach new code are kept in ``var/fuzz/corpus``, so that a later run continues from there. An input that fails is kept
in ``var/fuzz/findings`` and makes the exit status 1; ``--input FILE`` runs it alone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "var" / "fuzz"
NAMES = ("event", "record", "query", "offsets", "endpoint", "request")
RSS_LIMIT_MB = 1024
TIMEOUT_SECONDS = 30
"""For one input, in wall time, and the machine may be busy; test_giants.py measures CPU time."""
MAX_INPUT_BYTES = 20_000
_PACKAGES = ["schemas", "pipeline"]


def main() -> int:
    """Run the targets one by one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=NAMES, action="append", help="one target only; may be given more than once")
    parser.add_argument("--input", type=Path, help="run one input, with one --target")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    options, more = parser.parse_known_args()
    if options.child:
        _fuzz(options.child, more)
    if more:
        parser.error(f"unknown arguments: {' '.join(more)}")
    if options.input and len(options.target or ()) != 1:
        parser.error("--input needs one --target")
    try:
        import atheris  # noqa: F401, PLC0415
    except ImportError:
        print(
            "atheris is not installed: it has wheels for CPython on Linux x86-64 only. `make install` gets it where there is one."
        )
        return 2
    print(f"{'target':<10} {'executions':>12} {'edges':>7} {'peak MB':>8}  result", flush=True)
    return max([_run(name, options.seconds, options.input) for name in options.target or NAMES])


def _run(name: str, seconds: int, single: Path | None) -> int:
    corpus, findings = KEPT / "corpus" / name, KEPT / "findings"
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        words = Path(temporary) / "words"
        command = [sys.executable, __file__, "--child", name, f"-artifact_prefix={findings}/{name}-", "-print_final_stats=1"]
        command += [f"-max_total_time={seconds}", f"-rss_limit_mb={RSS_LIMIT_MB}", f"-timeout={TIMEOUT_SECONDS}"]
        command += [f"-max_len={MAX_INPUT_BYTES}", f"-dict={words}"]
        command += [str(single)] if single else [str(corpus)]
        # The child writes the seeds and the words, as only it imports the product.
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(temporary), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    output = done.stdout.decode("utf-8", "replace")
    executions, edges, peak = (
        _last(pattern, output) for pattern in (r"executed_units: (\d+)", r" cov: (\d+)", r"peak_rss_mb: +(\d+)")
    )
    ok = done.returncode == 0 and bool(executions or single)
    print(f"{name:<10} {executions:>12,} {edges:>7,} {peak:>8,}  {'ok' if ok else 'FOUND SOMETHING'}", flush=True)
    if not ok:
        print(output[-8000:], flush=True)
    return 0 if ok else 1


def _environment(temporary: str) -> dict[str, str]:
    import os  # noqa: PLC0415

    return os.environ | {"PYTHONPATH": str(ROOT), "FUZZ_TEMPORARY": temporary}


def _last(pattern: str, output: str) -> int:
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0


def _fuzz(name: str, arguments: list[str]) -> None:
    """In the child: import the instrumented product, and never return."""
    import os  # noqa: PLC0415

    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=_PACKAGES):
        from tests.fuzz.targets import TARGETS, WORDS  # noqa: PLC0415
    target = TARGETS[name]
    temporary = Path(os.environ["FUZZ_TEMPORARY"])
    seeds = temporary / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)
    (temporary / "words").write_text("".join(f'"{word}"\n' for word in WORDS))
    is_single = Path(arguments[-1]).is_file()
    with target.opened() as check:
        atheris.Setup([sys.argv[0], *arguments, *([] if is_single else [str(seeds)])], check)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
