"""``oms-webhooks erase`` against the real application."""

from __future__ import annotations

from pipeline.store.erase import PersonData, Subject
from tests.unit.consumers.commands import Command
from tests.unit.web.service import Service

TRACES = PersonData(events=("evt_1", "evt_2"), attempts=(64, 128, 192), dead_letters=(5,), orders=("R1", "R 2"))


async def test_it_shows_what_would_be_erased_and_erases_with_yes(service: Service, run: Command) -> None:
    service.eraser.found = [TRACES]
    shown = await run("erase", "--email", "ada@example.com")
    assert (shown.exit_code, "Nothing was changed" in shown.output) == (0, True)
    assert "30 days: webhooks.dead-letters" in shown.output
    assert service.eraser.started == []

    service.eraser.found = [TRACES]
    made = await run("erase", "--email", "ada@example.com", "--yes")
    assert made.exit_code == 0
    assert "ClickHouse no longer finds any of it." in made.output
    assert "oms-webhooks erase --order 'R 2' --yes\n" in made.output
    assert service.eraser.started == [TRACES]


async def test_printed_commands_go_to_the_same_pipeline(service: Service, run: Command) -> None:
    """Without the URL they would go to the local one, which says that nothing is left."""
    service.eraser.found = [TRACES]
    url = f"{service.url}/"
    made = await run("erase", "--email", "ada@example.com", "--yes", "--url", url)
    assert f"oms-webhooks erase --order 'R 2' --yes --url {url}\n" in made.output


async def test_data_recorded_meanwhile_is_an_error(service: Service, run: Command) -> None:
    service.eraser.found = [TRACES, PersonData(attempts=(64,))]
    made = await run("erase", "--order", "R1", "--yes")
    assert made.exit_code != 0
    assert str(made.exception) == "1 row was recorded in the meantime. Run the same command again."


async def test_finding_nothing_is_not_reported_as_an_erasure(service: Service, run: Command) -> None:
    """After a typo, it used to say that ClickHouse no longer finds any of it."""
    for option, name in (("--order", "order number"), ("--email", "email address")):
        nothing = f"Nothing was found for this {name}. If you expected something, check how you wrote it."
        shown = await run("erase", option, "ada@exmaple.com")
        assert (shown.exit_code, shown.stdout.splitlines()[0]) == (0, nothing)
        assert ("--yes" in shown.stdout.splitlines()[-1], "This would be erased" in shown.stdout) == (False, False)
        made = await run("erase", option, "ada@exmaple.com", "--yes")
        assert (made.exit_code, made.stdout.startswith(f"{nothing} (erasure ")) == (0, True)
        assert ("no longer finds" in made.stdout, "Erased" in made.stdout) == (False, False)
        assert "30 days: webhooks.dead-letters" in made.stdout, "Kafka may still contain some"


async def test_either_email_or_order_is_given_or_read_from_standard_input(service: Service, run: Command) -> None:
    for arguments in ((), ("--email", "a@b.example", "--order", "R1")):
        refused = await run("erase", *arguments)
        assert str(refused.exception) == "Use either --email or --order."
    assert service.eraser.asked == []
    assert (await run("erase", "--email", "-", stdin="ada@example.com\n")).exit_code == 0
    assert service.eraser.asked == [Subject(email="ada@example.com")]


async def test_an_order_number_does_not_control_the_terminal(service: Service, run: Command) -> None:
    """Producers choose it."""
    service.eraser.found = [PersonData(events=("evt_1",), orders=("R1\x1b[2J\r",))]
    shown = await run("erase", "--email", "ada@example.com")
    assert [one for one in shown.output if not one.isprintable() and one != "\n"] == []
    assert r"  oms-webhooks erase --order - --yes  # on standard input: R1\x1b[2J\r, with the characters that" in shown.output
