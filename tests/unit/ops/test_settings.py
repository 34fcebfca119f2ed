from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from pipeline.ops.settings import Settings
from pipeline.sender.limits import SenderLimits

pytestmark = pytest.mark.usefixtures("clean_environment")

SECRETS = {
    "kafka_ssl_password": "pem-hunter2",
    "kafka_sasl_password": "sasl-hunter2",
    "kafka_oauth_client_secret": "oauth-hunter2",
    "clickhouse_password": "click-hunter2",
    "encryption_key": "key-hunter2",
    "api_keys": "api-hunter2,other-hunter2",
    "operational_secret": "whsec_hunter2",
    "egress_proxy_credentials": "proxy-hunter2",
}


def refused(**values: Any) -> str:
    """Return the error about bad values, as the command line shows it: names and messages, no inputs."""
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    findings = caught.value.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, finding['loc']))}: {finding['msg']}" for finding in findings)


def test_the_defaults_are_complete() -> None:
    settings = Settings()

    assert settings.retry_delays == tuple(timedelta(seconds=seconds) for seconds in (5, 60, 600, 3600, 21600))
    assert settings.kafka_bootstrap_servers == ""
    assert settings.allowed_networks == ()
    assert settings.api_keys == ()
    assert settings.topics.orders == "oms.orders"
    SenderLimits(settings.max_in_flight, settings.request_timeout_seconds, settings.connect_timeout_seconds)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092",
        "KAFKA_TOPIC_PREFIX": "eu-1.",
        "RETRY_DELAYS": " 250ms, 2s ,1m",
        "ALLOWED_NETWORKS": "127.0.0.0/8, ::1/128,,10.1.2.3",
        "API_KEYS": " first , second,",
        "MAX_EVENT_BYTES": "1048576",
        "RECORDER_BATCH_SECONDS": "0.25",
        "CLICKHOUSE_PATH": "data/clickhouse",
        "LOG_LEVEL": "debug",
    }.items():
        monkeypatch.setenv(f"OMS_WEBHOOKS_{name}", value)

    settings = Settings()

    assert settings.kafka_bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert settings.topics.orders == "eu-1.oms.orders"
    assert settings.retry_delays == (timedelta(milliseconds=250), timedelta(seconds=2), timedelta(minutes=1))
    assert settings.topics.delay_topics[1:4] == ("eu-1.webhooks.delay.250ms", "eu-1.webhooks.delay.2s", "eu-1.webhooks.delay.5s")
    assert settings.allowed_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("10.1.2.3/32"))
    assert [key.get_secret_value() for key in settings.api_keys] == ["first", "second"]
    assert (settings.max_event_bytes, settings.recorder_batch_seconds, settings.log_level) == (1 << 20, 0.25, "debug")
    assert settings.clickhouse_path == Path("data/clickhouse")


def test_an_env_file_is_read_and_the_environment_takes_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OMS_WEBHOOKS_HTTP_PORT=9000\nOMS_WEBHOOKS_RETRY_DELAYS=1s,2s\nOTHER=1\n", encoding="utf-8")
    monkeypatch.setenv("OMS_WEBHOOKS_HTTP_PORT", "9001")

    settings = Settings()

    assert settings.http_port == 9001
    assert settings.retry_delays == (timedelta(seconds=1), timedelta(seconds=2))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().http_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"retry_delays": "5s,soon"},
            "retry_delays: Value error, 'soon' is not a delay; write a whole number and a unit, such as 5s",
        ),
        ({"retry_delays": ""}, "retry_delays: Value error, '' is not a delay"),
        ({"retry_delays": "1s,2s,3s,4s,5s,6s"}, "a notification is retried up to 5 times"),
        ({"retry_delays": ()}, "a schedule has 1 to 5 delays"),
        ({"retry_delays": "1m,5s"}, "delays must be above zero and must not get shorter, such as 5s,1m,10m,1h,6h"),
        ({"retry_delays": "0s,5s"}, "delays must be above zero"),
        (
            {"patient_retry_delays": "1d,1h"},
            "patient_retry_delays: Value error, delays must be above zero and must not get shorter",
        ),
        ({"impatient_retry_delays": "now"}, "impatient_retry_delays: Value error, 'now' is not a delay"),
        ({"further_retry_delays": "2h,0s"}, "further_retry_delays: Value error, delays must be above zero, such as 30s,2h"),
        ({"allowed_networks": "nowhere"}, "allowed_networks"),
        ({"allowed_networks": "10.0.0.0/33"}, "allowed_networks"),
        ({"kafka_topic_prefix": "a b"}, "kafka_topic_prefix: String should match pattern"),
        (
            {"kafka_security_protocol": "TLS"},
            "kafka_security_protocol: Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
        ),
        ({"clickhouse_database": "x; DROP"}, "clickhouse_database: String should match pattern"),
        ({"max_event_bytes": 13 * 1024 * 1024}, "max_event_bytes: Input should be less than or equal to 12582912"),
        ({"max_event_bytes": 10}, "max_event_bytes: Input should be greater than or equal to 1024"),
        ({"max_in_flight": 0}, "max_in_flight: Input should be greater than or equal to 1"),
        ({"http_port": 70_000}, "http_port: Input should be less than or equal to 65535"),
        ({"kafka_partitions": 1025}, "kafka_partitions: Input should be less than or equal to 1024"),
        ({"request_timeout_seconds": "long"}, "request_timeout_seconds: Input should be a valid number"),
        ({"recorder_batch_seconds": 0}, "recorder_batch_seconds: Input should be greater than 0"),
        ({"drain_seconds": "inf"}, "drain_seconds: Input should be a finite number"),
        ({"search_wait_seconds": "nan"}, "search_wait_seconds: Input should be a finite number"),
        ({"disable_after_days": 9_999_999}, "disable_after_days: Input should be less than or equal to 365000"),
        ({"tell_failing_after_hours": 1e9}, "tell_failing_after_hours: Input should be less than or equal to 8760000"),
        ({"retention_days": 1_000_000}, "retention_days: Input should be less than or equal to 365000"),
        ({"log_level": "loud"}, "log_level: Input should be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_bad_values_are_refused_with_a_message(values: dict[str, Any], message: str) -> None:
    assert message in refused(**values)


def test_the_host_bits_of_a_network_do_not_matter() -> None:
    assert Settings(allowed_networks="127.0.0.1/8,fd00::1/8") == Settings(allowed_networks="127.0.0.0/8,fd00::/8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"operational_url": "https://ops.example.com/"}, "operational_url needs operational_secret"),
        ({"operational_url": "ops.example.com", "operational_secret": "x"}, "must be an http(s) URL"),
        ({"operational_url": "https://a:hunter2@ops.example.com/", "operational_secret": "x"}, "without a user name"),
        (
            {"operational_url": "https://ops.example.com/", "operational_secret": "hunter2"},
            "operational_secret: The signing secret must start with whsec_, followed by 24 to 64 bytes",
        ),
        ({"egress_proxy": "http://proxy", "egress_proxy_credentials": "oms:hunter2"}, "egress_proxy must look like http://"),
        ({"egress_proxy": "http://oms:hunter2@proxy:3128"}, "user and password in egress_proxy_credentials"),
        ({"egress_proxy": "https://proxy:3128"}, "egress_proxy must look like http://"),
        ({"egress_proxy": "http://proxy:3128", "egress_proxy_credentials": "hunter2"}, "a user name, a colon and a password"),
        ({"egress_proxy": "http://proxy:3128", "egress_proxy_credentials": "oms:hunter2\r\nX: y"}, "without control characters"),
        ({"otlp_endpoint": "collector:4318"}, "otlp_endpoint must be an http(s) URL"),
        ({"otlp_endpoint": "http://a:hunter2@collector:4318"}, "otlp_endpoint must be an http(s) URL without a user name"),
        ({"trace_ratio": 1.5}, "trace_ratio: "),
        ({"metrics_top_endpoints": 101}, "metrics_top_endpoints: "),
        ({"circuit_open_seconds": 10, "circuit_open_max_seconds": 9}, "circuit_open_max_seconds (9) must not be below"),
        ({"circuit_failures": 0}, "circuit_failures: "),
        ({"disable_after_days": 0}, "disable_after_days: "),
    ],
)
def test_limits_that_isolation_cannot_work_with_are_refused(values: dict[str, Any], message: str) -> None:
    said = refused(**values)

    assert message in said
    assert "hunter2" not in said


def test_slow_endpoints_leave_room_in_both_limits() -> None:
    assert Settings().slow_budget == 250
    assert Settings(max_in_flight=100).slow_budget == 50
    assert Settings(max_outstanding_records=100).slow_budget == 25
    assert Settings(max_outstanding_records=1).slow_budget == 1


def test_an_endless_delay_is_refused_with_a_message() -> None:
    assert "retry_delays" in refused(retry_delays="99999999999999d")


@pytest.mark.parametrize("seconds", [3, 5])
def test_inconsistent_timeouts_are_refused(seconds: float) -> None:
    assert "timeout_seconds" in refused(request_timeout_seconds=seconds)


# --- SASL ---

SASL = {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "me", "kafka_sasl_password": "hunter2"}


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("missing", SASL)
def test_sasl_needs_all_of_its_settings(protocol: str, missing: str) -> None:
    given = {name: value for name, value in SASL.items() if name != missing}

    assert "SASL needs kafka_sasl_mechanism, kafka_sasl_username and kafka_sasl_password" in refused(
        kafka_security_protocol=protocol, **given
    )


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_complete_sasl_settings_are_accepted(protocol: Any) -> None:
    settings = Settings(kafka_security_protocol=protocol, **SASL)  # type: ignore[arg-type]

    assert settings.kafka_sasl_mechanism == "PLAIN"


def test_without_sasl_none_of_its_settings_are_needed() -> None:
    assert Settings(kafka_security_protocol="SSL").kafka_sasl_password is None


OAUTH = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"}
ENDPOINT = {"kafka_oauth_token_url": "https://id.example/token", "kafka_oauth_client_id": "me"}


def test_oauth_needs_a_file_or_an_endpoint_and_no_user() -> None:
    assert Settings(**OAUTH, kafka_oauth_token_file="/run/token").kafka_sasl_username is None  # type: ignore[arg-type]
    Settings(**OAUTH, **ENDPOINT, kafka_oauth_client_secret="hunter2")  # type: ignore[arg-type]
    for given in ({}, {"kafka_oauth_token_file": "/run/token", **ENDPOINT}):
        assert "OAUTHBEARER needs either kafka_oauth_token_file or kafka_oauth_token_url" in refused(**OAUTH, **given)
    assert "needs kafka_oauth_client_id and kafka_oauth_client_secret" in refused(**OAUTH, **ENDPOINT)


@pytest.mark.parametrize("url", ["http://id.example/token", "id.example", "https://me:hunter2@id.example/token"])
def test_a_client_secret_is_only_sent_over_tls(url: str) -> None:
    assert "kafka_oauth_token_url" in refused(kafka_oauth_token_url=url)


def test_more_in_sync_replicas_than_replicas_are_refused() -> None:
    assert "no record would ever be acknowledged" in refused(kafka_replication_factor=2, kafka_min_insync_replicas=3)
    Settings(kafka_replication_factor=3, kafka_min_insync_replicas=2)
    Settings(kafka_replication_factor=-1, kafka_min_insync_replicas=2)


# --- what is shown ---


def test_every_setting_is_shown_and_described() -> None:
    shown = Settings().shown()

    assert list(shown) == list(Settings.model_fields)
    assert shown["retry_delays"] == "5s,1m,10m,1h,6h"
    assert shown["allowed_networks"] == ""
    assert shown["clickhouse_path"] == ""
    assert all(field.description for field in Settings.model_fields.values())


def test_every_setting_is_read() -> None:
    root = Path(__file__).parents[3]
    sources = [*(root / "pipeline").rglob("*.py"), *(root / "consumers").rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"\.([a-z]\w*)", path.read_text("utf-8"))}

    assert [name for name in Settings.model_fields if name not in read] == []


def test_shown_settings_can_be_set_again() -> None:
    settings = Settings(allowed_networks="127.0.0.0/8,::1/128", retry_delays="250ms,90s", kafka_sasl_username="me")
    shown = {name: text for name, text in settings.shown().items() if text and name not in SECRETS}

    assert Settings(**shown) == settings  # type: ignore[arg-type]


def test_secrets_are_never_shown() -> None:
    settings = Settings(**SECRETS)  # type: ignore[arg-type]

    for text in (repr(settings), str(settings), str(settings.shown()), settings.model_dump_json()):
        assert "hunter2" not in text
    assert settings.shown()["encryption_key"] == "**********"
    assert settings.shown()["api_keys"] == "**********,**********"


def test_every_setting_that_sounds_like_a_secret_is_one() -> None:
    for name, field in Settings.model_fields.items():
        says_where = name.endswith(("_file", "_url"))
        if not says_where and any(word in name for word in ("password", "secret", "encryption_key", "api_keys", "token")):
            assert "Secret" in str(field.annotation), name


def test_no_error_quotes_a_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(kafka_security_protocol="SASL_SSL", kafka_sasl_password="hunter2")

    assert "hunter2" not in str(caught.value)


def test_a_password_in_the_url_of_clickhouse_is_refused_or_hidden() -> None:
    try:
        settings = Settings(clickhouse_url="https://me:hunter2@clickhouse:8443")
    except ValidationError:
        return
    assert "hunter2" not in str(settings.shown())
    assert "hunter2" not in repr(settings)


def test_a_directory_of_files_is_read_and_a_variable_takes_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, content in {
        "oms_webhooks_clickhouse_password": "from a file\n",
        "oms_webhooks_api_keys": "one, two\n",
        "oms_webhooks_kafka_sasl_password": "from a file",
        "other_app_password": "not ours",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_SASL_PASSWORD", "from a variable")

    settings = Settings()

    assert settings.clickhouse_password.get_secret_value() == "from a file"
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.kafka_sasl_password is not None
    assert settings.kafka_sasl_password.get_secret_value() == "from a variable"


def test_a_missing_directory_of_files_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"OMS_WEBHOOKS_SECRETS_DIR is .*nowhere, which is not a directory"):
        Settings()


@pytest.mark.parametrize("file", [".env", "secrets/oms_webhooks_clickhouse_password"])
def test_a_file_in_another_encoding_is_named_and_not_quoted(file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("OMS_WEBHOOKS_SECRETS_DIR", str(tmp_path / "secrets"))
    (tmp_path / file).write_bytes("OMS_WEBHOOKS_KAFKA_SASL_PASSWORD=hünter2\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=f"{tmp_path / file} is not UTF-8") as refusal:
        Settings()
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize("servers", ["kafka", "kafka:x", ":9092", "kafka:0", "kafka:65536", "kafka:9092,", "[::1]"])
def test_a_bootstrap_server_without_its_port_is_refused(servers: str) -> None:
    assert "is not host:port" in refused(kafka_bootstrap_servers=servers)


def test_bootstrap_servers_may_be_names_and_addresses() -> None:
    servers = "kafka-1:9092, 10.0.0.1:9093,[::1]:9094"
    assert Settings(kafka_bootstrap_servers=servers).kafka_bootstrap_servers == servers


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_file_name_is_unset(empty: str) -> None:
    """It used to be the working directory: the embedded ClickHouse put its files there."""
    names = [name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation)]
    assert "clickhouse_path" in names
    settings = Settings(**dict.fromkeys(names, empty))  # type: ignore[arg-type]
    assert {name: getattr(settings, name) for name in names} == dict.fromkeys(names)


def test_empty_credentials_of_the_egress_proxy_are_unset() -> None:
    proxy = Settings(egress_proxy="http://proxy:3128", egress_proxy_credentials="").proxy
    assert proxy is not None
    assert proxy.authorization is None
