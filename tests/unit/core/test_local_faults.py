"""Whether a name that fails is our fault or the endpoint's, judged by other names."""

from __future__ import annotations

import pytest

from pipeline.core.exchange import Failure, NoResponse
from pipeline.core.local_faults import PARKED_IN_DOUBT, Evidence, LocalFault, NameHistory, NotSent, with_fault_attributed

OTHERWISE = NoResponse(Failure.DNS, "hooks.example.com: the host name does not resolve.", 3.0)


def test_a_name_that_fails_while_another_works_is_at_fault_itself() -> None:
    witnesses = NameHistory()
    witnesses.worked("good.test", 100.0)
    for name in ("a.test", "b.test", "c.test", "d.test"):
        witnesses.failed(name)
    assert witnesses.evidence("a.test", 130.0) is Evidence.OTHERS_WORK


def test_successes_of_the_same_name_or_long_ago_are_no_evidence() -> None:
    witnesses = NameHistory()
    witnesses.worked("good.test", 100.0)
    witnesses.worked("a.test", 129.0)
    witnesses.failed("a.test")
    assert witnesses.evidence("a.test", 131.0) is Evidence.NONE


def test_several_failing_names_are_evidence_against_us_until_one_works() -> None:
    witnesses = NameHistory()
    for name in ("a.test", "a.test", "b.test"):
        witnesses.failed(name)
    assert witnesses.evidence("a.test", 0.0) is Evidence.NONE
    witnesses.failed("c.test")
    assert witnesses.evidence("a.test", 0.0) is Evidence.SEVERAL_FAIL
    witnesses.worked("c.test", 1.0)
    assert witnesses.evidence("c.test", 1.0) is Evidence.NONE


def test_the_latest_names_come_first_and_old_ones_are_forgotten() -> None:
    witnesses = NameHistory()
    for number in range(1000):
        witnesses.worked(f"{number}.test", float(number))
    assert witnesses.latest(2) == ["999.test", "998.test"]
    assert len(witnesses.latest(1000)) == 64


@pytest.mark.parametrize(("parked", "is_theirs"), [(0, False), (PARKED_IN_DOUBT - 1, False), (PARKED_IN_DOUBT, True)])
def test_a_fault_in_doubt_is_eventually_attributed_to_the_endpoint(parked: int, is_theirs: bool) -> None:
    sent = NotSent(LocalFault.RESOLVER, "The resolver is silent.", OTHERWISE)
    assert with_fault_attributed(sent, parked) is (OTHERWISE if is_theirs else sent)


def test_a_certain_fault_is_never_attributed_to_the_endpoint() -> None:
    sent = NotSent(LocalFault.DESCRIPTORS, "Too many open files.")
    assert with_fault_attributed(sent, 10 * PARKED_IN_DOUBT) is sent
