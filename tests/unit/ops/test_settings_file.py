from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from pipeline.ops.settings import Settings


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A settings file, still empty, and no other variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("OMS_WEBHOOKS_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "settings.toml"
    path.write_text("")
    monkeypatch.setenv("OMS_WEBHOOKS_SETTINGS_FILE", str(path))
    return path


def test_a_file_is_read_and_a_variable_takes_precedence(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        'kafka_partitions = 12\nretry_delays = ["1s", "2s"]\nallowed_networks = "127.0.0.0/8,::1/128"\nretention_days = 30\n'
    )
    monkeypatch.setenv("OMS_WEBHOOKS_RETENTION_DAYS", "7")
    settings = Settings()
    assert (settings.kafka_partitions, settings.retention_days) == (12, 7)
    assert settings.retry_delays == (timedelta(seconds=1), timedelta(seconds=2))
    assert len(settings.allowed_networks) == 2


def test_a_secret_with_its_own_file_may_be_left_out(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "oms_webhooks_clickhouse_password").write_text("hunter2")
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(tmp_path))
    file.write_text('clickhouse_username = "me"\n')
    assert Settings().clickhouse_password.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kafka_partition = 12", "has unknown settings: kafka_partition"),
        ("[kafka]\npartitions = 12", "has unknown settings: kafka"),
        ("kafka_partitions: 12", "is not TOML"),
    ],
)
def test_an_error_in_the_file_is_reported(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(SettingsError, match=said):
        Settings()


def test_an_invalid_value_is_refused_as_elsewhere(file: Path) -> None:
    file.write_text("kafka_partitions = 0")
    with pytest.raises(ValidationError, match="kafka_partitions"):
        Settings()


def test_a_missing_file_is_an_error(file: Path) -> None:
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory"):
        Settings()


def test_a_written_file_describes_everything_and_can_be_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KAFKA_PARTITIONS": "9", "RETRY_DELAYS": "1s,2s", "ALLOWED_NETWORKS": "10.0.0.0/8"}.items():
        monkeypatch.setenv(f"OMS_WEBHOOKS_{name}", value)
    monkeypatch.setenv("OMS_WEBHOOKS_CLICKHOUSE_PASSWORD", "hunter2")
    written = Settings()
    text = written.toml()
    assert "hunter2" not in text
    assert tomllib.loads(text) == {"kafka_partitions": "9", "retry_delays": "1s,2s", "allowed_networks": "10.0.0.0/8"}
    uncommented = "\n".join(line.removeprefix("# ") for line in text.splitlines() if " = " in line)
    assert set(tomllib.loads(uncommented)) == set(Settings.model_fields)

    file.write_text(text)
    for name in ("KAFKA_PARTITIONS", "RETRY_DELAYS", "ALLOWED_NETWORKS"):
        monkeypatch.delenv(f"OMS_WEBHOOKS_{name}")
    assert Settings() == written
