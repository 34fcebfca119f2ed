"""A release takes over from the previous one, role by role and under load: with its records in Kafka and its tables in ClickHouse."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from tests.faults.deployment import EVERY_ROLE
from tests.faults.evidence import Evidence
from tests.faults.processes import ROOT
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

BEFORE = os.environ.get("UPGRADE_FROM") or "104cfdd"
"""The previous release, as git names it."""
ORDER = ("recorder", "retry", "fanout", "api")
"""Readers before writers, as in docs/compatibility.md."""
GRACE_SECONDS = 60.0
_BEGIN = "import sys; sys.path.insert(0, {path!r}); from consumers.cli import main; main()"


def command_of(release: str, directory: Path) -> Sequence[str]:
    """Return the command line of a release, unpacked into a directory. It runs with this release's packages."""
    archive = subprocess.run(
        ["git", "archive", release, "consumers", "pipeline", "schemas"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"git does not have {release} here (a shallow clone, or no clone): {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    return [sys.executable, "-c", _BEGIN.format(path=str(directory))]


def with_ids_of_today(found: Evidence) -> Evidence:
    """Convert the evidence: attempt ids started at 0 in that release, and now start at 1, so its stored records have ids one lower."""
    wanted: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    stored: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for attempt in found.attempts:
        wanted[attempt.position.partition, attempt.position.offset].add(attempt.id)
    for row in found.stored_attempts or ():
        stored[row.partition, row.offset].add(int(row.id))
    of_before = {place for place, ids in stored.items() if {one + 1 for one in ids} == wanted[place]}
    assert of_before, "the previous release has stored nothing, so the run proves too little"
    rows = [
        row._replace(id=int(row.id) + 1) if (row.partition, row.offset) in of_before else row
        for row in found.stored_attempts or ()
    ]
    return replace(found, stored_attempts=rows)


async def test_an_upgrade_from_the_previous_release_under_load(stage: Stage) -> None:
    before = command_of(BEFORE, stage.directory / "before")
    async with stage.play("upgrade", commands=dict.fromkeys(EVERY_ROLE, before)) as run:
        deployment = run.deployment
        endpoints = await deployment.registered()
        async with run.under_load(waves=len(ORDER) + 1):
            await deployment.until_at_work()
        for role in ORDER:
            async with run.under_load(waves=len(ORDER) + 1):
                await deployment.until_at_work()
                seconds = await deployment.dismiss(role, GRACE_SECONDS)
                await deployment.launch(role).until_ready()
            run.say(f"{role} is of this release; that before it ended after {seconds:.1f} s")
        await run.prove(most_duplicates=0, read_as=with_ids_of_today)
        assert _identities(await deployment.registered()) == _identities(endpoints), "an endpoint has changed"


def _identities(endpoints: Sequence[Mapping[str, object]]) -> list[list[object]]:
    """Return what both releases show in the same form. Filters now have another form; the deliveries prove that they mean the same."""
    return [[one[name] for name in ("id", "target_url", "events", "active", "description", "created_at")] for one in endpoints]
