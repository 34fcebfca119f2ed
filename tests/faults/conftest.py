"""What the scenarios share: seeds, a size, a stage, progress output, and the table at the end.

They take minutes in the full form: a real Kafka and real processes start, deliver thousands of events, and fail many times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from pipeline.devtools.local_broker import ApacheKafkaBroker
from tests.faults.scale import Scale, chosen_scale, chosen_seeds
from tests.faults.scenario import Result, Stage

Tell: TypeAlias = Callable[[str], None]

RESULTS = pytest.StashKey[list[Result]]()
SCALE = pytest.StashKey[Scale]()
SEEDS = pytest.StashKey[list[int]]()
DIRECTORY = Path(__file__).resolve().parents[2] / "var" / "faults"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each scenario once with each seed."""
    stash = metafunc.config.stash
    if SEEDS not in stash:
        stash[SCALE] = scale = chosen_scale()
        stash[SEEDS] = chosen_seeds(scale)
        stash[RESULTS] = []
    if "seed" in metafunc.fixturenames:
        seeds = stash[SEEDS]
        metafunc.parametrize("seed", seeds, ids=[f"seed={seed}" for seed in seeds])


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[ApacheKafkaBroker]:
    """Run a broker that no other scenario uses: it can be restarted, and its offsets topic has only this run's commits."""
    broker = ApacheKafkaBroker(data_dir=tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Tell:
    """Return a function that always prints: the progress of long runs, and the figures of successful ones."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def printed(text: str) -> None:
        if capture is None:
            print(text, flush=True)
            return
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    return printed


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    """Return the size of the run."""
    return pytestconfig.stash[SCALE]


@pytest.fixture
def stage(bootstrap_servers: str, tmp_path: Path, seed: int, scale: Scale, tell: Tell, pytestconfig: pytest.Config) -> Stage:
    """Provide the stage of a scenario."""
    return Stage(bootstrap_servers, tmp_path, seed, scale, tell, pytestconfig.stash[RESULTS])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, and write it as JSON to var/faults/."""
    results = config.stash.get(RESULTS, [])
    if not results:
        return
    rows = [{name: value for name, value in asdict(result).items() if name != "form"} for result in results]
    terminalreporter.section(f"fault suite, {results[0].form} form")
    widths = {name: max(len(name), *(len(_shown(row[name])) for row in rows)) for name in rows[0]}
    terminalreporter.write_line("  ".join(name.replace("_", " ").ljust(width) for name, width in widths.items()))
    for row in rows:
        terminalreporter.write_line("  ".join(_shown(row[name]).rjust(width) for name, width in widths.items()))
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    file = DIRECTORY / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{results[0].form}.json"
    file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    terminalreporter.write_line(f"written to {file.relative_to(DIRECTORY.parents[1])}")


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "NO"
        case int():
            return f"{value:,}"
    return str(value)
