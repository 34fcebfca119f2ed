"""The alert rules: promtool accepts them, tests show each alert firing and not firing, and every link has a target.

promtool takes seconds of CPU to run the tests of some alerts, and half a minute for all.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT, RULE_TESTS, RULES, promtool, rules

RUNBOOK = ROOT / "docs" / "runbook.md"
PARTS = ("symptom", "look", "do", "verify")


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert "SUCCESS" in (checked := promtool("check", "rules", RULES)).stdout, checked.stderr
    checked = promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.timeout(1000)
def test_every_alert_passes_its_tests() -> None:
    tested = promtool("test", "rules", RULE_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("alert", "mistake", "instead"),
    [
        ("OmsWebhooksLag", "> 10000", "> 100000"),
        ("OmsWebhooksNotReady", "for: 5m", "for: 15m"),
        ("OmsWebhooksDeadLetters", "severity: warning", "severity: info"),
        ("OmsWebhooksKafkaDown", "#kafka-is-down", "#kafka-is-gone"),
    ],
)
def test_a_mistake_in_a_rule_fails_its_tests(alert: str, mistake: str, instead: str, tmp_path: Path) -> None:
    text = RULES.read_text()
    assert mistake in text
    cases = yaml.safe_load(RULE_TESTS.read_text())
    cases["tests"] = [case for case in cases["tests"] if case["alert_rule_test"][0]["alertname"] == alert]
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(cases))
    (tmp_path / "rules.yml").write_text(text)
    assert promtool("test", "rules", tmp_path / "rules_test.yml").returncode == 0
    (tmp_path / "rules.yml").write_text(text.replace(mistake, instead))
    assert promtool("test", "rules", tmp_path / "rules_test.yml").returncode != 0


@pytest.mark.parametrize(
    ("mistake", "instead"),
    [
        (
            "sum by (namespace) (",
            "sum by namespace (",
        ),
        ("for: 2m", "for: 2 m"),
    ],
)
def test_a_mistake_in_the_syntax_is_found(mistake: str, instead: str, tmp_path: Path) -> None:
    text = RULES.read_text()
    assert mistake in text
    (tmp_path / "rules.yml").write_text(text.replace(mistake, instead))
    assert promtool("check", "rules", tmp_path / "rules.yml").returncode != 0


def test_every_alert_is_tested_both_ways() -> None:
    tests = [test for case in yaml.safe_load(RULE_TESTS.read_text())["tests"] for test in case["alert_rule_test"]]
    fired = {test["alertname"] for test in tests if test["exp_alerts"]}
    silent = {test["alertname"] for test in tests if not test["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in rules("alert")}


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_severity_and_a_runbook_section(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    link = rule["annotations"]["runbook_url"]
    prefix = "{{ $externalLabels.runbooks }}docs/runbook.md#"
    assert link.startswith(prefix)
    section = sections()[link.removeprefix(prefix)]
    for part in PARTS:
        assert f"**{part.capitalize()}**" in section, f"the section has no {part}"


def test_every_section_of_the_runbook_has_an_alert() -> None:
    linked = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in rules("alert")}
    assert set(sections()) - linked == {"before-you-begin"}


def test_the_runbook_says_what_to_do_for_each_check_of_readiness() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "consumers").glob("*.py")))
    added = r"""health\.add\("([^"]+)"|start_table\([^"\n]+"([^"]+)"|\("(\w+)", \w+(?:\.worker)?\)"""
    checks = {name for found in re.findall(added, code) for name in found if name}
    assert checks >= {"topics", "recorder", "endpoints", "api keys", "fanout", "held", "ordered"}  # each form is found
    said = sections()["a-process-is-not-ready"]
    assert not [name for name in sorted(checks) if f"`{name}`" not in said]


def sections() -> dict[str, str]:
    """Return the sections of the runbook by anchor, as Markdown viewers create them."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {title.strip().lower().replace(" ", "-"): text for title, text in zip(parts[::2], parts[1::2], strict=True)}
