from __future__ import annotations

from pipeline.ops.health import Health


def test_without_checks_there_is_no_problem() -> None:
    assert Health().problems() == {}


def test_every_check_is_called_each_time() -> None:
    health = Health()
    state: dict[str, str | None] = {"kafka": "no brokers", "store": None}
    health.add("kafka", lambda: state["kafka"])
    health.add("store", lambda: state["store"])

    assert health.problems() == {"kafka": "no brokers"}
    state.update(kafka=None, store="")
    assert health.problems() == {"store": ""}, "an empty text is still a problem"
    state.update(store=None)
    assert health.problems() == {}


def test_a_check_of_the_same_name_replaces_the_earlier_one() -> None:
    health = Health()
    health.add("kafka", lambda: "old")
    health.add("kafka", lambda: None)

    assert health.problems() == {}


def test_a_warning_does_not_affect_readiness() -> None:
    health = Health()
    state: list[str | None] = ["too many open files"]
    health.warn("own faults", lambda: state[0])

    assert health.problems() == {}
    assert health.warnings() == {"own faults": "too many open files"}
    state[0] = None
    assert health.warnings() == {}


def test_a_starting_process_says_what_it_waits_for() -> None:
    health, away = Health(starting=True), {"Kafka": False, "ClickHouse": False}
    health.add_wait("Kafka", lambda: away["Kafka"])
    health.add_wait("ClickHouse", lambda: away["ClickHouse"])
    assert (health.waiting_for, health.problems()) == ("", {"startup": "starting"})
    away["Kafka"] = True
    assert health.problems() == {"startup": "starting: waiting for Kafka"}
    away["ClickHouse"] = True
    assert health.waiting_for == "Kafka and ClickHouse"
    health.starting = False
    assert health.problems() == {}
