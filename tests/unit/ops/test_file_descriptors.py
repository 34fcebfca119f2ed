"""File descriptors: the limit is raised as far as possible and shared out, and a shortage is reported in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.ops.file_descriptors import OWN, DescriptorBudget

_RAISE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from pipeline.ops.file_descriptors import raise_descriptor_limit
print(*raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard"), [(256, 1500), (1500, 1500)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    command = [sys.executable, "-c", _RAISE, str(soft), str(hard)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [str(soft), str(hard), str(hard)]


@pytest.mark.parametrize("limit", [1024, 1500, 4096, 65_536, 1_048_576])
@pytest.mark.parametrize("in_flight", [0, 64, 512])
def test_the_shares_fit_into_the_limit(limit: int, in_flight: int) -> None:
    budget = DescriptorBudget(limit, in_flight)
    assert budget.problem() is None
    assert in_flight + budget.idle + budget.visitors + OWN <= limit
    assert budget.idle <= in_flight


def test_a_shortage_is_reported_in_words() -> None:
    budget = DescriptorBudget(1024, 2000)
    assert budget.idle == 0
    problem = budget.problem() or ""
    for word in ("1,024", "2,512", "2,000", "max_in_flight", "LimitNOFILE"):
        assert word in problem
