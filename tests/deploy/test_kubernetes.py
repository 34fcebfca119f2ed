"""The Kubernetes manifests: built by kustomize, validated with the schemas of Kubernetes, KEDA and the Prometheus Operator, and
compared with the code's topics, groups, probes, settings and addresses.

kustomize and the validation take seconds, the first time more: Go fetches the schemas.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import pytest
import yaml

from consumers.run import Role
from pipeline.ops.health import Health
from pipeline.ops.settings import Settings
from pipeline.sender import address_guard
from pipeline.sender.address_guard import AddressGuard
from pipeline.web.health_routes import ops_routes
from tests.deploy.files import DEPLOY, ROOT, RULES, documents, nested, run, tool

MANIFESTS = DEPLOY / "kubernetes"
OVERLAYS = ("development", "production")
KUBERNETES = ("1.31", "1.34")
# The sources of the custom resources' schemas: their projects' own modules, from Go's module proxy.
CUSTOM = {
    "ScaledObject": ("github.com/kedacore/keda/v2@v2.15.1", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "TriggerAuthentication": ("github.com/kedacore/keda/v2@v2.15.1", "config/crd/bases/keda.sh_triggerauthentications.yaml"),
    "ServiceMonitor": (
        "github.com/prometheus-operator/prometheus-operator@v0.76.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "PrometheusRule": (
        "github.com/prometheus-operator/prometheus-operator@v0.76.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}
Manifest = dict[str, Any]


class BuildError(Exception):
    """kustomize cannot build an overlay."""


def build(overlay: str, manifests: Path = MANIFESTS) -> list[Manifest]:
    """Return what `kubectl apply -k` would send."""
    kustomize = tool("kustomize", "run `make var/tools/kustomize` (it needs Go)")
    built = run([kustomize, "build", manifests / "overlays" / overlay])
    if built.returncode != 0:
        raise BuildError(built.stderr)
    return documents(built.stdout)


@functools.cache
def schema(kind: str) -> Any:
    """Return the schema of a custom resource. Unknown fields are mistakes."""
    module, file = CUSTOM[kind]
    go = tool("go", "install Go, which fetches the schemas of the custom resources")
    # Outside any module, so that we need no go.mod.
    downloaded = run([go, "mod", "download", "-json", module], cwd=Path(os.sep), seconds=300)
    assert downloaded.returncode == 0, f"{module} could not be fetched: {json.loads(downloaded.stdout or '{}').get('Error')}"
    definition = yaml.safe_load((Path(json.loads(downloaded.stdout)["Dir"]) / file).read_text(encoding="utf-8"))
    [version] = [version for version in definition["spec"]["versions"] if version["storage"]]
    return strict(version["schema"]["openAPIV3Schema"], top=True)


def strict(node: Any, *, top: bool = False) -> Any:
    """Return a schema that accepts no unknown fields (``metadata`` is Kubernetes's own)."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    # Go's formats and patterns sometimes differ from JSON Schema's.
    result = {key: strict(value) for key, value in node.items() if key != "format" and "(?i)" not in str(node.get("pattern"))}
    if isinstance(node.get("properties"), dict):
        result["properties"] = {key: strict(value) for key, value in node["properties"].items()}
        if top:
            result["properties"]["metadata"] = {"type": "object"}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result


def validate(manifest: Manifest) -> None:
    """Raise the first mistake in a manifest."""
    if manifest["kind"] in CUSTOM:
        jsonschema.validate(manifest, schema(manifest["kind"]))
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def validate_all(manifests: Path) -> None:
    """Build production and validate it; raise at the first mistake."""
    for manifest in build("production", manifests):
        validate(manifest)


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest) -> list[Manifest]:
    """Build every overlay."""
    return build(request.param)


@pytest.fixture(scope="module")
def production() -> list[Manifest]:
    return build("production")


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def test_the_overlays_are_valid(built: list[Manifest]) -> None:
    for manifest in built:
        validate(manifest)
    assert len(built) > 15


@pytest.mark.parametrize(
    ("file", "mistake", "instead"),
    [
        ("role/deployment.yaml", "readinessProbe:", "readynessProbe:"),
        ("role/deployment.yaml", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: a minute"),
        ("role/pod-disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailible: 1"),
        ("base/network-policy.yaml", "policyTypes: [Egress]", "policyTypes: Egress"),
        ("base/service.yaml", "port: 80,", "port: eighty,"),
        ("autoscaling/scaled-objects.yaml", "maxReplicaCount", "maxReplicas"),
        ("monitoring/service-monitor.yaml", "endpoints:", "endpoint:"),
        ("monitoring/prometheus-rule.yaml", "expr:", "expression:"),
        ("overlays/production/trigger-authentication.yaml", "parameter: ca", "param: ca"),
        ("base/kustomization.yaml", "service.yaml", "services.yaml"),
        ("overlays/production/kustomization.yaml", "/spec/triggers/2/", "/spec/triggers/5/"),
    ],
)
def test_a_mistake_is_found(file: str, mistake: str, instead: str, tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(MANIFESTS, copy)
    text = (copy / file).read_text()
    assert mistake in text
    (copy / file).write_text(text.replace(mistake, instead))

    with pytest.raises((BuildError, jsonschema.ValidationError)):
        validate_all(copy)


# --- against the code ---


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, deployment in of_kind(manifests, "Deployment").items():
        yield name.removeprefix("oms-webhooks-"), deployment["spec"]["template"]["spec"]


def settings_of(manifests: list[Manifest]) -> Mapping[str, str]:
    [config] = [each for name, each in of_kind(manifests, "ConfigMap").items() if name.startswith("oms-webhooks-")]
    return cast("Mapping[str, str]", config["data"])


def test_each_role_has_a_deployment(built: list[Manifest]) -> None:
    assert {name: pod["containers"][0]["args"] for name, pod in pods(built)} == {role.value: [role.value] for role in Role}
    for kind in ("Deployment", "PodDisruptionBudget"):
        selectors = {name: each["spec"]["selector"]["matchLabels"] for name, each in of_kind(built, kind).items()}
        for role in Role:
            wanted = {"app.kubernetes.io/name": "oms-webhooks", "app.kubernetes.io/component": role.value}
            assert selectors[f"oms-webhooks-{role.value}"] == wanted


def test_a_file_of_event_types_reaches_every_role(tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(MANIFESTS, copy)
    overlay = copy / "overlays" / "production"
    shutil.copy(DEPLOY / "event-types" / "event-types.yaml", overlay)
    text = (overlay / "kustomization.yaml").read_text().replace("  # - name: oms-webhooks-event", "  - name: oms-webhooks-event")
    (overlay / "kustomization.yaml").write_text(text.replace("  #   files:", "    files:"))

    manifests = build("production", copy)

    [config] = [name for name in of_kind(manifests, "ConfigMap") if name.startswith("oms-webhooks-event-types-")]
    mounted = {name: next(each for each in pod["volumes"] if each["name"] == "event-types") for name, pod in pods(manifests)}
    assert {name: each["configMap"] for name, each in mounted.items()} == {
        role.value: {"name": config, "optional": True} for role in Role
    }


def test_the_settings_exist_and_are_valid(built: list[Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = {f"OMS_WEBHOOKS_{name.upper()}" for name in Settings.model_fields}
    assert set(settings_of(built)) <= names
    (tmp_path / "oms_webhooks_kafka_sasl_password").write_text("secret")
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(tmp_path))
    for name, value in settings_of(built).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    for _, pod in pods(built):
        # The last commit, leaving the group, the producer (10 s) and the requests to the API (10 s) come after the drain.
        assert pod["terminationGracePeriodSeconds"] >= settings.drain_seconds + 30


def test_the_probes_use_existing_paths(built: list[Manifest]) -> None:
    served = {route.path for route in ops_routes(Health())}
    for _, pod in pods(built):
        container = pod["containers"][0]
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/startupz", "liveness": "/healthz", "readiness": "/readyz"}
        assert set(paths.values()) <= served


def test_a_process_has_few_rights(built: list[Manifest]) -> None:
    for _, pod in pods(built):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_each_role_gets_the_secrets_that_it_needs(built: list[Manifest]) -> None:
    given = {}
    for name, pod in pods(built):
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
        given[name] = {source["secret"]["name"].removeprefix("oms-webhooks-") for source in volume["projected"]["sources"]}
    assert given == {
        "fanout": {"kafka", "encryption"},
        "retry": {"kafka", "encryption"},
        "recorder": {"kafka", "clickhouse"},
        "api": {"kafka", "encryption", "clickhouse", "api"},
    }
    assert not of_kind(built, "Secret"), "secrets are created elsewhere"
    described = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in {f"oms-webhooks-{name}" for names in given.values() for name in names}:
        assert f"`{name}`" in described or f" {name} " in described


def test_the_commands_create_every_secret_without_which_no_pod_starts() -> None:
    manifests = "".join(path.read_text(encoding="utf-8") for path in (DEPLOY / "kubernetes").rglob("*.yaml"))
    required = set(re.findall(r"secret: \{name: ([\w-]+)\}", manifests))
    assert required >= {"oms-webhooks-encryption", "oms-webhooks-clickhouse"}
    described = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert required <= set(re.findall(r"create secret generic ([\w-]+)", described))


def test_the_metrics_are_scraped(production: list[Manifest]) -> None:
    [monitor] = of_kind(production, "ServiceMonitor").values()
    wanted = monitor["spec"]["selector"]["matchLabels"]
    [service] = [each for each in of_kind(production, "Service").values() if wanted.items() <= each["metadata"]["labels"].items()]
    assert [port["name"] for port in service["spec"]["ports"]] == [end["port"] for end in monitor["spec"]["endpoints"]]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "oms-webhooks", "the rules expect this job"


def test_the_rules_match_those_of_prometheus(production: list[Manifest]) -> None:
    [rule] = of_kind(production, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load(RULES.read_text()), "run `make prometheus-rule`"


def test_scaling_follows_real_groups_and_topics(production: list[Manifest]) -> None:
    topics = Settings().topics
    deployments = of_kind(production, "Deployment")
    groups = {topics.fanout_group: set(topics.sources), topics.recorder_group: {topics.attempts, topics.dispatches}}
    scaled: dict[str, set[str]] = {}
    for name, each in of_kind(production, "ScaledObject").items():
        assert each["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in deployments[name]["spec"], "KEDA decides"
        for trigger in each["spec"]["triggers"]:
            if trigger["type"] == "kafka":
                scaled.setdefault(trigger["metadata"]["consumerGroup"], set()).add(trigger["metadata"]["topic"])
                assert trigger["authenticationRef"]["name"] in of_kind(production, "TriggerAuthentication")
                assert trigger["metadata"]["bootstrapServersFromEnv"] in settings_of(production)
            else:
                assert topics.retry_group in trigger["metadata"]["query"]
        assert each["spec"]["maxReplicaCount"] <= Settings().kafka_partitions
    assert scaled == groups


# --- the network policy and the address guard ---

Network = IPv4Network | IPv6Network


def open_to_the_internet(manifests: list[Manifest]) -> dict[Network, set[Network]]:
    """Return the networks that deliveries may go to, each with its exceptions."""
    policy = of_kind(manifests, "NetworkPolicy")["oms-webhooks-deliveries"]
    blocks = list(nested(policy, "ipBlock"))
    return {
        ipaddress.ip_network(block["cidr"]): {ipaddress.ip_network(network) for network in block["except"]} for block in blocks
    }


def test_networks_that_the_guard_refuses_are_closed_to_the_pods(built: list[Manifest]) -> None:
    refused: list[Network] = [network for network, _ in address_guard._REFUSED_V4]
    refused += [network for network, _ in address_guard._REFUSED_V6]
    refused += [address_guard._SIX_TO_FOUR, address_guard._LOCAL_NAT64]
    for opened, exceptions in open_to_the_internet(built).items():
        for network in refused:
            if network.version == opened.version and network.overlaps(opened):
                assert any(network.subnet_of(cast("Any", exception)) for exception in exceptions), f"{network} is open"


def test_networks_that_the_guard_accepts_are_open_to_the_pods(built: list[Manifest]) -> None:
    """Except 6to4 as a whole, where the guard checks the embedded address."""
    judge = AddressGuard()
    opened = open_to_the_internet(built)
    assert set(opened) == {IPv4Network("0.0.0.0/0"), address_guard._GLOBAL_UNICAST}
    for network in {exception for exceptions in opened.values() for exception in exceptions} - {address_guard._SIX_TO_FOUR}:
        for address in (network[0], network[-1], network[network.num_addresses // 3]):
            assert judge.refusal(str(address)), f"the guard would accept {address}"


def test_only_delivering_roles_reach_the_internet(built: list[Manifest]) -> None:
    for name, policy in of_kind(built, "NetworkPolicy").items():
        if list(nested(policy, "ipBlock")):
            assert name == "oms-webhooks-deliveries"
            [expression] = policy["spec"]["podSelector"]["matchExpressions"]
            assert set(expression["values"]) == {"fanout", "retry", "api"}
    assert of_kind(built, "NetworkPolicy")["oms-webhooks"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
