"""The dashboards: their metrics exist, they can be loaded, and their SQL runs on the real schema."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from pipeline.ops import metrics
from pipeline.ops.collectors import LoopMetric
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections, StoreError
from pipeline.store.migrate import migrate
from tests.deploy.files import DASHBOARDS, documents, nested, promtool, rules
from tests.deploy.files import DEPLOY as DEPLOY_DIRECTORY

FILES = sorted(DASHBOARDS.glob("*.json"))
# From Prometheus itself and from every process with its client library.
ELSEWHERE = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
NAME = re.compile(r"\b(?:oms_webhooks[:_][a-z0-9_:]+|process_[a-z_]+)\b")
SERIES = re.compile(r"\b(oms_webhooks[:_][a-z0-9_:]+)\b(\{[^}]*\})?")


def dashboard(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def expressions() -> Iterator[str]:
    """Return every PromQL expression of the dashboards and the rules."""
    for path in FILES:
        yield from nested(dashboard(path), "expr")
    for rule in [*rules("alert"), *rules("record")]:
        yield rule["expr"]


def exposed() -> dict[str, set[str]]:
    """Return the series of each metric of the code, by the metric's name."""
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}
    families = [
        family
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase | LoopMetric)
        for family in metric.describe()
    ]
    return {family.name: {family.name + ending for ending in kinds[family.type]} for family in families}


def test_shown_and_watched_metrics_exist() -> None:
    known = set().union(*exposed().values()) | {rule["record"] for rule in rules("record")} | ELSEWHERE
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert used <= known, f"not in pipeline/ops/metrics.py: {sorted(used - known)}"


def test_every_metric_is_shown_or_watched() -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    unused = sorted(name for name, series in exposed().items() if not series & used)
    print(f"In no dashboard and no rule: {', '.join(unused) or 'none'}")
    assert not unused, "show it in a dashboard (docs/code.md, A metric), watch it with an alert, or remove it"


def test_used_labels_exist() -> None:
    """A matcher or a grouping by an unknown label would never show anything."""
    labels = {
        label
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase | LoopMetric)
        for label in (metric._labelnames if isinstance(metric, MetricWrapperBase) else metric.labelnames)
    }
    asked = set()
    for expression in expressions():
        for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
            asked |= {label.strip() for label in group.split(",")}
        for matchers in re.findall(r"\{([^}]*)\}", expression):
            asked |= set(re.findall(r"(\w+)(?:=|!)", matchers))
    assert asked - labels <= {"namespace", "instance", "job", "le", "version"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_expressions_are_valid_promql(path: Path, tmp_path: Path) -> None:
    """They are passed to promtool as rules, with variables replaced."""
    found = list(nested(dashboard(path), "expr"))
    filled = [expr.replace("$namespace", "shop").replace("$__rate_interval", "1m") for expr in found]
    assert not [expr for expr in filled if "$" in expr]
    document = {"groups": [{"name": "g", "rules": [{"record": f"r{i}", "expr": expr} for i, expr in enumerate(filled)]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(document))
    checked = promtool("check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stderr


def faults(loaded: dict[str, Any]) -> list[str]:
    """Return what Grafana would refuse, or show wrongly without an error."""
    found = [f"no {name}" for name in ("uid", "title", "schemaVersion", "panels", "templating", "time") if not loaded.get(name)]
    panels = loaded.get("panels", [])
    ids = [panel.get("id") for panel in panels]
    found += ["ids are missing or not unique"] if None in ids or len(set(ids)) < len(ids) else []
    variables = {variable["name"] for variable in loaded.get("templating", {}).get("list", [])}
    used = set(re.findall(r"\$\{?(?!__)([a-z]\w*)", json.dumps(panels)))
    found += [f"${name} is no variable" for name in sorted(used - variables)]
    found += [f"variable {name} is not used" for name in sorted(variables - used)]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel.get("gridPos", {"x": 0, "y": 0, "w": 0, "h": 0})
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if not cells or cells & taken or place["x"] + place["w"] > 24:
            found.append(f"{panel.get('title')}: does not lie well")
        taken |= cells
        targets = panel.get("targets", [])
        if panel.get("type") not in {"row", "alertlist"} and not targets:
            found.append(f"{panel.get('title')}: asks for nothing")
        if len({target.get("refId") for target in targets}) < len(targets):
            found.append(f"{panel.get('title')}: refIds are not unique")
        found += [f"{panel.get('title')}: no data source" for target in targets if not target.get("datasource", {}).get("uid")]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_can_load_the_dashboards(path: Path) -> None:
    assert faults(dashboard(path)) == []
    assert dashboard(path)["uid"] == f"oms-webhooks-{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_shows_only_the_chosen_namespaces(path: Path) -> None:
    for expression in nested(dashboard(path), "expr"):
        for name, matchers in SERIES.findall(expression):
            assert 'namespace=~"$namespace"' in matchers, f"{name} is not limited to the chosen namespaces: {expression}"


@pytest.mark.parametrize(
    ("mistake", "instead"),
    [('"id": 3,', '"id": 2,'), ("${datasource}", "${data}"), ('"w": 8', '"w": 18'), ('"refId": "B"', '"refId": "A"')],
)
def test_a_mistake_in_a_dashboard_is_found(mistake: str, instead: str) -> None:
    text = (DASHBOARDS / "overview.json").read_text(encoding="utf-8")
    assert mistake in text
    assert faults(json.loads(text.replace(mistake, instead)))


def test_each_role_has_a_page_besides_an_overview_and_a_drill_down() -> None:
    assert {path.stem for path in FILES} == {"overview", "fanout", "retry", "recorder", "api", "endpoint"}


def test_the_provisioned_data_sources_match_the_dashboards() -> None:
    provisioned = documents((DEPLOY_DIRECTORY / "grafana/provisioning/datasources/datasources.yaml").read_text())[0]
    kinds = {source["type"] for source in provisioned["datasources"]}
    asked = {source["type"] for path in FILES for source in nested(dashboard(path), "datasource") if isinstance(source, dict)}
    assert asked == kinds
    variables = {
        variable["query"]
        for path in FILES
        for variable in dashboard(path)["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert variables == kinds


# --- the drill-down's SQL ---


@pytest.fixture
async def schema(tmp_path: Path) -> AsyncIterator[Connections]:
    """Create the real tables, without rows."""
    settings = Settings(clickhouse_path=tmp_path / "clickhouse")
    connections = Connections(settings)
    await migrate(connections)
    yield connections
    await connections.close()


def filled_in(sql: str) -> str:
    """Return the statement as Grafana's ClickHouse plugin sends it for one endpoint and one day."""
    sql = re.sub(
        r"\$__timeFilter\((\w+)\)", r"(\1 >= toDateTime('2026-03-01 00:00:00') AND \1 <= toDateTime('2026-03-02 00:00:00'))", sql
    )
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", sql)
    return sql.replace("${endpoint:sqlstring}", "'7'")


async def test_the_sql_of_the_drill_down_runs_on_the_schema(schema: Connections) -> None:
    """It takes seconds: all migrations are carried out."""
    statements = [filled_in(sql) for sql in nested(dashboard(DASHBOARDS / "endpoint.json"), "rawSql")]
    assert len(statements) > 10
    for statement in statements:
        assert "$" not in statement
        await schema.read(lambda client, statement=statement: client.query(statement))  # type: ignore[misc]
    broken = next(sql for sql in statements if "outcome" in sql).replace("outcome", "outcomes")
    with pytest.raises(StoreError, match="outcomes"):
        await schema.read(lambda client: client.query(broken))
