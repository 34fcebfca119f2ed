"""Typos in the names of settings are found, and the source of a refused value is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.ops.settings_sources import setting_source, unknown_names

pytestmark = pytest.mark.usefixtures("clean_environment")

OTHERS = ("OMS_WEBHOOKS_API_KEY", "OMS_WEBHOOKS_API_URL")


@pytest.fixture
def secrets_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(directory))
    return directory


def found() -> dict[str, str | None]:
    return dict(unknown_names(OTHERS))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("OMS_WEBHOOKS_RETENTON_DAYS", "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_RETENTION_DAYS?"),
        ("oms_webhooks_retenton_days", "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_RETENTION_DAYS?"),
        ("OMS_WEBHOOKS_API_KEI", "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_API_KEY?"),
        ("OMS_WEBHOOKS_SECRETS_DIRECTORY", "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_SECRETS_DIR?"),
        ("OMS_WEBHOOKS_QQQ", "This is not a setting and has no effect."),
        ("OMS_WEBHOOK_RETENTION_DAYS", "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_RETENTION_DAYS?"),
    ],
)
def test_an_unknown_variable_is_found(name: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    assert found() == {name.upper(): advice}


def test_settings_and_unrelated_variables_are_not_reported(monkeypatch: pytest.MonkeyPatch, secrets_dir: Path) -> None:
    for name, value in {
        "OMS_WEBHOOKS_API_KEY": "of a command",
        "OMS_WEBHOOKS_API_KEYS": "a setting",
        "oms_webhooks_http_port": "8080",
        "OMS_WEBHOOKS_SETTINGS_FILE": "settings.toml",
        # Kubernetes sets these for a Service oms-webhooks-api.
        "OMS_WEBHOOKS_API_SERVICE_HOST": "10.0.0.1",
        "OMS_WEBHOOKS_API_SERVICE_PORT_HTTP": "80",
        "OMS_WEBHOOKS_API_PORT": "tcp://10.0.0.1:80",
        "OMS_WEBHOOKS_API_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    for file in ("oms_webhooks_encryption_key", "grafana_password", "..data"):
        (secrets_dir / file).write_text("x")
    Path(".env").write_text("OTHER=1\nOMS_WEBHOOKS_HTTP_HOST=0.0.0.0\n", encoding="utf-8")
    assert found() == {}


def test_an_unknown_file_and_an_unknown_line_are_found(secrets_dir: Path) -> None:
    (secrets_dir / "oms_webhooks_encryption_ky").write_text("x")
    Path(".env").write_text("OMS_WEBHOOKS_LOG_LEVL=debug\n", encoding="utf-8")
    assert found() == {
        "OMS_WEBHOOKS_LOG_LEVL in .env": "This is not a setting and has no effect; did you mean OMS_WEBHOOKS_LOG_LEVEL?",
        str(
            secrets_dir / "oms_webhooks_encryption_ky"
        ): "This is not a setting and has no effect; did you mean oms_webhooks_encryption_key?",
    }


def test_secrets_that_the_roles_do_not_get_are_found(secrets_dir: Path) -> None:
    (secrets_dir / "oms_webhooks_api_keys").mkdir()
    (secrets_dir / "encryption_key").write_text("x")
    assert found() == {
        str(secrets_dir / "encryption_key"): "This file has no effect; did you mean oms_webhooks_encryption_key?",
        str(secrets_dir / "oms_webhooks_api_keys"): (
            "This is not a file, so the setting has no value. Docker creates a directory if the file to mount does not exist."
        ),
    }


def test_the_first_source_with_a_value_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets_dir: Path) -> None:
    (secrets_dir / "oms_webhooks_http_port").write_text("x")
    assert setting_source("http_port") == str(secrets_dir / "oms_webhooks_http_port")
    file = tmp_path / "settings.toml"
    file.write_text('http_port = "x"\n')
    monkeypatch.setenv("OMS_WEBHOOKS_SETTINGS_FILE", str(file))
    assert setting_source("http_port") == f"http_port in {file}"
    Path(".env").write_text("OMS_WEBHOOKS_HTTP_PORT=x\n", encoding="utf-8")
    assert setting_source("http_port") == "OMS_WEBHOOKS_HTTP_PORT in .env"
    monkeypatch.setenv("OMS_WEBHOOKS_HTTP_PORT", "x")
    assert setting_source("http_port") == "OMS_WEBHOOKS_HTTP_PORT"
