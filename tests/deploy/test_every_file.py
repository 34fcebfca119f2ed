"""Every file under deploy/ has a validator: which test checks which file, and the checks that no other test makes."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT, documents, promtool, run, tool

VALIDATED = {
    "Dockerfile": "test_containers: hadolint",
    "Dockerfile.dockerignore": "here: against what the Dockerfile copies",
    "compose.yaml": "test_containers: the compose specification",
    "*.sh": "test_containers: shellcheck",
    "clickhouse/analysts.sql": "tests/contract/test_store_analytics.py: ClickHouse's own parser",
    "event-types/event-types.yaml": "tests/unit/ops/test_event_types_file.py",
    "docs/samples.py": "make docs, in .ci/run",
    "grafana/dashboards/*.json": "test_dashboards: promtool, the engine, what Grafana would stumble over",
    "grafana/provisioning/datasources/*": "test_dashboards: against the dashboards",
    "grafana/provisioning/dashboards/*": "here: against what compose mounts",
    "kafka/pom.xml": "here: Maven",
    "kafka/README.md": "here: what it names exists",
    "kubernetes/*": "test_kubernetes: kustomize and the schemas",
    "prometheus/rules*.yml": "test_rules: promtool",
    "prometheus/prometheus.yml": "here: promtool",
}


def test_every_file_has_a_validator() -> None:
    files = [
        str(path.relative_to(DEPLOY))
        for path in DEPLOY.rglob("*")
        if path.is_file() and not {"secrets", "__pycache__"} & set(path.parts)
    ]
    assert [file for file in files if not any(fnmatch(file, pattern) for pattern in VALIDATED)] == []
    assert [pattern for pattern in VALIDATED if not any(fnmatch(file, pattern) for file in files)] == []


def test_every_manifest_is_built_by_an_overlay() -> None:
    """A file that no kustomization names would not be validated."""
    base = DEPLOY / "kubernetes"
    named = {base / "overlays" / overlay for overlay in ("development", "production")}
    waiting = list(named)
    while waiting:
        directory = waiting.pop()
        kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
        files = [*kustomization.get("resources", ()), *kustomization.get("components", ())]
        files += [file for generator in kustomization.get("configMapGenerator", ()) for file in generator.get("envs", ())]
        for path in {(directory / file).resolve() for file in files} - named:
            named.add(path)
            if path.is_dir():
                waiting.append(path)
    manifests = {path for path in base.rglob("*") if path.is_file() and path.name != "kustomization.yaml"}
    assert manifests <= named
    assert {path.parent for path in base.rglob("kustomization.yaml")} <= named


# --- the contents of the image ---


def context_faults(dockerignore: str) -> set[str]:
    """Return differences between what the Dockerfile copies and what the context contains."""
    copied = {
        source.removesuffix("/").removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is excluded except what is named"
    return copied ^ {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_the_context_of_the_image_matches_what_is_copied() -> None:
    text = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert context_faults(text) == set()
    assert context_faults(text.replace("!pipeline", "!pipelines")) == {"pipeline", "pipelines"}
    assert context_faults(text + "!.env\n") == {".env"}


# --- Grafana's provider ---


def provider_faults(provisioning: str) -> set[str]:
    """Return directories that Grafana is configured with and that compose does not mount."""
    compose = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text()))
    mounted = {volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]}
    [document] = documents(provisioning)
    return {provider["options"]["path"] for provider in document["providers"]} - mounted


def test_grafana_finds_its_dashboards() -> None:
    text = (DEPLOY / "grafana/provisioning/dashboards/dashboards.yaml").read_text()
    assert provider_faults(text) == set()
    assert provider_faults(text.replace("/dashboards\n", "/dashboard\n")) == {"/var/lib/grafana/dashboard"}


# --- Prometheus's configuration ---


@pytest.mark.parametrize(
    ("mistake", "instead"), [("scrape_interval: 15s", "scrape_intervall: 15s"), ("type: A\n", "type: B\n"), ("15s", "15")]
)
def test_a_mistake_in_the_configuration_of_prometheus_is_found(mistake: str, instead: str, tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert mistake in text
    (tmp_path / "prometheus.yml").write_text(text.replace(mistake, instead))
    assert promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml").returncode != 0


# --- Kafka's jars ---


def maven(pom: Path) -> int:
    """Validate a file with Maven; nothing is fetched."""
    return run(
        [tool("mvn", "apt-get install maven"), "--quiet", "--offline", "--batch-mode", "--file", pom, "validate"]
    ).returncode


def test_maven_accepts_the_list_of_kafkas_jars(tmp_path: Path) -> None:
    """It takes seconds: Maven starts three times."""
    pom = DEPLOY / "kafka" / "pom.xml"
    assert maven(pom) == 0
    for mistake, instead in (("<packaging>pom</packaging>", "<packaging>pom"), ("<version>${kafka.version}</version>", "")):
        broken = tmp_path / "pom.xml"
        assert mistake in pom.read_text()
        broken.write_text(pom.read_text().replace(mistake, instead))
        assert maven(broken) != 0, instead


def test_targets_and_paths_in_the_kafka_readme_exist() -> None:
    text = (DEPLOY / "kafka" / "README.md").read_text()
    targets = set(re.findall(r"`make ([\w-]+)", text))
    assert targets
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in re.findall(r"`((?:pipeline|deploy)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
