"""When a member checks the assignments of its group, and when it must rejoin."""

from __future__ import annotations

from pipeline.broker.api import Membership, Partition
from pipeline.broker.assignment_check import ADDED_S, CONFIRM_S, FIRST_LOOK_S, AssignmentCheck, named

FIRST, SECOND = (frozenset({Partition("oms.orders", number)}) for number in range(2))
NOBODY_MISSES = frozenset[Partition]()
MEMBER = Membership("a", 1)


def looked(check: AssignmentCheck, at: float, unassigned: frozenset[Partition], rank: int = 0) -> bool:
    assert check.is_due(MEMBER, at), "the check is due"
    return check.must_rejoin(unassigned, rank, at)


def begun() -> AssignmentCheck:
    check = AssignmentCheck()
    assert not check.is_due(MEMBER, 0)
    return check


def test_it_checks_soon_after_a_rebalance_and_then_once_a_minute() -> None:
    check = begun()
    assert not check.is_due(MEMBER, FIRST_LOOK_S - 0.1)
    assert not looked(check, FIRST_LOOK_S, NOBODY_MISSES)
    assert not check.is_due(MEMBER, FIRST_LOOK_S + 59)
    assert not looked(check, FIRST_LOOK_S + 60, NOBODY_MISSES)
    assert not check.is_due(Membership("a", 2), 100)
    assert check.is_due(Membership("a", 2), 100 + FIRST_LOOK_S)


def test_partitions_that_stay_unassigned_after_a_rebalance_make_the_member_rejoin() -> None:
    check = begun()
    assert not looked(check, 3, FIRST)
    assert not check.is_due(MEMBER, 3 + CONFIRM_S - 0.1)
    assert looked(check, 3 + CONFIRM_S, FIRST | SECOND)


def test_the_second_member_leaves_it_to_the_first() -> None:
    check = begun()
    assert not looked(check, 3, FIRST, rank=1)
    assert not check.is_due(MEMBER, 3 + 2 * CONFIRM_S - 0.1)
    assert looked(check, 3 + 2 * CONFIRM_S, FIRST, rank=1)


def test_added_partitions_are_left_to_the_leader_for_a_while() -> None:
    check = begun()
    assert not looked(check, 3, NOBODY_MISSES)
    assert not looked(check, 63, FIRST)
    assert not check.is_due(MEMBER, 63 + ADDED_S - 0.1)
    assert looked(check, 63 + ADDED_S, FIRST)


def test_different_unassigned_partitions_restart_the_wait() -> None:
    check = begun()
    assert not looked(check, 3, FIRST)
    assert not looked(check, 3 + CONFIRM_S, SECOND)
    assert looked(check, 3 + 2 * CONFIRM_S, SECOND)


def test_a_member_that_rejoins_without_effect_does_so_less_and_less_often() -> None:
    check, now, rejoined = AssignmentCheck(), 0.0, list[float]()
    identity = Membership("a", 0)
    assert not check.lasting
    while now < 200:
        now += 1
        if check.is_due(identity, now) and check.must_rejoin(FIRST, 0, now):
            rejoined.append(now)
            identity = Membership(f"a{now}", 0)
    assert rejoined == [16.0, 44.0, 96.0, 196.0]
    assert check.lasting == FIRST
    assert not check.must_rejoin(NOBODY_MISSES, 0, now)
    assert not check.lasting


def test_of_many_partitions_only_the_first_few_are_named() -> None:
    assert named(FIRST | SECOND) == "oms.orders-0, oms.orders-1"
    assert named({Partition("oms.orders", number) for number in range(7)}).endswith("oms.orders-4 and 2 more")
