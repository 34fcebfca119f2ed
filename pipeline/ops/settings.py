"""All settings in one frozen model. Sources: variables ``OMS_WEBHOOKS_…``, a ``.env`` file, a TOML file, and a directory with
one file per setting, for secrets. See ``oms-webhooks settings``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pipeline.core.egress_proxy import EgressProxy, egress_proxy
from pipeline.core.signing import HOW_TO_MAKE_A_SECRET, SigningKey
from pipeline.ops.event_types_file import read_event_types
from pipeline.ops.settings_file import SETTINGS_FILE, as_toml, read_settings_file
from pipeline.ops.settings_kafka import KafkaSettings, OptionalPath
from pipeline.ops.settings_retry import RetrySettings
from pipeline.ops.settings_search import SearchSettings
from schemas.event_reader import EventReader
from schemas.event_types import BUILT_IN, SOURCE_TOPICS, EventTypes
from schemas.producer_forms import ProducerForm
from schemas.topics import DEFAULT_HOLD, MAX_EVENT_BYTES_LIMIT, MIB, Topics, delay_label

SECRETS_DIR = "OMS_WEBHOOKS_SECRETS_DIR"
"""Names a directory with one file per setting, such as ``oms_webhooks_encryption_key``. Variables take precedence over files."""

_THOUSAND_YEARS: Final = 365_000
"""In days. With much longer ones, times that are shown or compared would be after the year 9999, which no date can hold."""

Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]
Forms = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class Settings(KafkaSettings, RetrySettings, SearchSettings):
    """Settings of every role. Lists are comma-separated. The settings of Kafka, retries and searches are in their own files."""

    model_config = SettingsConfigDict(
        env_prefix="OMS_WEBHOOKS_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        secrets_dir=None,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    if not TYPE_CHECKING:  # the fields give type checkers a better signature

        def __init__(self, **values: Any) -> None:
            """Read all sources.

            Raises:
                SettingsError: a source cannot be read.
                ValidationError: a value is not valid.
            """
            try:
                super().__init__(**values)
            except (UnicodeDecodeError, SettingsError) as error:
                if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                    raise
                # No cause: it contains the text that was read, which may be a secret.
                raise SettingsError(f"{_not_utf8()} is not UTF-8; save it in this encoding.") from None

    _event_types: EventTypes | None = PrivateAttr(default=None)

    # ClickHouse
    clickhouse_url: str = Field(
        default="", description="http(s)://host:port of a ClickHouse server. Empty: ClickHouse runs in this process (chDB)."
    )
    clickhouse_username: str = Field(default="default", description="ClickHouse user.")
    clickhouse_password: SecretStr = Field(default=SecretStr(""), description="ClickHouse password.")
    clickhouse_ca_file: OptionalPath = Field(
        default=None, description="PEM file of the CA that signed ClickHouse's certificate. Empty: the well-known CAs."
    )
    clickhouse_database: str = Field(
        default="oms_webhooks", description="ClickHouse database.", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"
    )
    clickhouse_cluster: str = Field(
        default="",
        description="Name of the ClickHouse cluster (remote_servers). Its nodes get replicated, sharded tables. Empty: a single server.",
        pattern=r"^[A-Za-z0-9_-]*$",
    )
    clickhouse_insert_quorum: str = Field(
        default="auto",
        description="On a cluster: how many replicas must store an insert before its offsets are committed in Kafka: auto (the majority), "
        "or a number.",
        pattern=r"^(auto|\d{1,2})$",
    )
    clickhouse_path: OptionalPath = Field(
        default=None, description="Directory of the in-process ClickHouse. Empty: a temporary directory, deleted at exit."
    )
    retention_days: int = Field(
        default=400,
        ge=1,
        le=_THOUSAND_YEARS,
        description="How long events, attempts and dead letters are kept in ClickHouse. They are deleted one week (Monday to Sunday, UTC) at "
        "a time. A new value takes effect when the recorder starts; a lower one deletes data immediately.",
    )

    # Delivery
    max_event_bytes: int = Field(
        default=6 * MIB,
        ge=1024,
        le=MAX_EVENT_BYTES_LIMIT,
        description="Largest event in bytes. Larger events become dead letters.",
    )
    event_types_file: OptionalPath = Field(
        default=None,
        description="YAML or JSON file with event types to add to the built-in ones (docs/event-types.md). Use the same file for every role "
        "and for the checks of producers.",
    )
    producer_forms: Forms = Field(
        default=(),
        description="How producers write the records of a topic, such as oms.orders=outbox,oms.shipments=cloudevents: auto, plain, "
        "cloudevents or outbox. Topics that are not listed are auto: the form of each record is detected. See docs/producers.md.",
    )
    max_in_flight: int = Field(default=512, ge=1, description="Maximum number of concurrent HTTP requests, in one process.")
    max_in_flight_per_endpoint: int = Field(
        default=64, ge=1, description="Maximum number of concurrent HTTP requests to one endpoint, in one process."
    )
    endpoint_wait_seconds: float = Field(
        default=1.0,
        ge=0,
        description="How long a delivery may wait for a free request when its endpoint is at max_in_flight_per_endpoint. If the endpoint "
        "responds more slowly than this, the delivery is sent later, from a delay topic.",
    )
    max_outstanding_records: int = Field(
        default=1000,
        ge=1,
        description="Maximum number of unfinished records from Kafka, in one process. Above it, polling pauses.",
    )
    circuit_failures: int = Field(
        default=10,
        ge=1,
        description="Consecutive failures (no response, 5xx, 429) after which an endpoint's circuit opens: its deliveries wait, and probes "
        "are sent.",
    )
    circuit_open_seconds: float = Field(
        default=5.0,
        gt=0,
        description="How long a circuit stays open the first time. Each failed probe doubles the time.",
    )
    circuit_open_max_seconds: float = Field(default=600.0, gt=0, description="The longest time that a circuit stays open.")
    disable_after_days: float = Field(
        default=5.0,
        gt=0,
        le=_THOUSAND_YEARS,
        description="An endpoint is disabled after it has failed for this many days without a success.",
    )
    tell_failing_after_hours: float = Field(
        default=1.0,
        gt=0,
        le=24 * _THOUSAND_YEARS,
        description="The operational event endpoint.failing is sent after an endpoint has failed for this long without a success.",
    )
    hold_days: float = Field(
        default=DEFAULT_HOLD.days,
        gt=0,
        le=3650,
        description="How long deliveries wait for a paused or disabled endpoint. After that they are recorded as expired.",
    )
    operational_url: str = Field(
        default="",
        description="URL that operational events, such as endpoint.disabled, are sent to. Empty: they are only written to their topic.",
    )
    operational_secret: SecretStr | None = Field(
        default=None,
        description=f"Signing secret of operational_url: whsec_ and 24 to 64 bytes in base64. Make one: {HOW_TO_MAKE_A_SECRET}",
    )
    webhook_origin: str = Field(
        default="oms-webhooks",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description="The name of this sender in CloudEvents handshakes (WebHook-Request-Origin). Use a domain that you own, such as "
        "hooks.example.com. Endpoints that were verified by a handshake get it as Origin with every request.",
    )
    max_outstanding_bytes: int = Field(
        default=64 * MIB,
        ge=1024,
        description="Bytes of records that the fan-out, the retry and the recorder may each hold, and bytes that Kafka may not have "
        "acknowledged yet. Above this, polling and attempts pause. A single larger record is still accepted.",
    )
    max_outstanding_deliveries: int = Field(
        default=10_000,
        ge=1,
        description="Maximum number of deliveries that the fan-out has in progress or queued, in one process.",
    )
    request_timeout_seconds: float = Field(default=15.0, gt=0, description="Time limit of one request, including the response.")
    connect_timeout_seconds: float = Field(default=5.0, gt=0, description="Time limit for connecting.")
    sender_speedups: bool = Field(
        default=True,
        description="Whether private parts of aiohttp may be used, which saves CPU time and enforces narrower limits "
        "(docs/security.md). They are never used with an untested release of aiohttp.",
    )
    egress_proxy: str = Field(
        default="",
        description="HTTP proxy (CONNECT) for all requests to endpoints and token endpoints, such as http://proxy.internal:3128. The requests "
        "then come from its addresses. Empty: no proxy, even if variables such as HTTPS_PROXY are set.",
    )
    egress_proxy_credentials: SecretStr | None = Field(
        default=None, description="user:password for egress_proxy (HTTP Basic). Empty: the proxy needs none."
    )
    resolver_probe_name: str = Field(
        default="example.com",
        description="Host name to look up when an endpoint's name does not resolve. The answer shows whether the resolver is down or only "
        "that domain. The name does not have to exist. Without access to public DNS, use a name that your own name servers know.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$",
    )
    allowed_networks: Networks = Field(
        default=(),
        description="Networks that are not public but that webhooks may be sent to, such as 127.0.0.0/8 (development).",
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts endpoint secrets in Kafka. Make one with: oms-webhooks new-key. To rotate it, give the new and the old "
        "key, comma-separated. With an embedded broker: generated at startup.",
    )

    # Recorder
    recorder_batch_records: int = Field(
        default=5000, ge=1, description="The recorder writes a batch when it has this many records."
    )
    recorder_batch_bytes: int = Field(
        default=32 * MIB, ge=1024, description="The recorder writes a batch when its records have this many bytes."
    )
    recorder_batch_seconds: float = Field(default=1.2, gt=0, description="The recorder writes a batch when it is this old.")

    # HTTP
    http_host: str = Field(default="127.0.0.1", description="Address that health, metrics and the API listen on.")
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Port that health, metrics and the API listen on. 0: any free port."
    )
    api_keys: Secrets = Field(
        default=(),
        description="Keys for the HTTP API, with the admin role, comma-separated. Embedded: one is generated at startup. Otherwise see docs/api.md.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of reverse proxies whose X-Forwarded-For is trusted. Wrong API keys are counted by client address.",
    )
    drain_seconds: float = Field(
        default=25.0, ge=0, description="After SIGTERM, how long deliveries in progress may take to finish."
    )

    # Metrics and tracing
    metrics_top_endpoints: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How many endpoints get their own metric of attempts, labeled with their id: in each process, the ones that fail most. 0: none.",
    )
    otlp_endpoint: str = Field(
        default="",
        description="URL of an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318. Needs the extra "
        "oms-webhooks[tracing]. Empty: no spans are created, and an event's traceparent is passed to the receivers unchanged.",
    )
    trace_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of traces to record, for traces that begin here. Traces that began elsewhere keep their sampling decision.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level that is logged.")
    log_format: Literal["json", "console"] = Field(
        default="json", description="json: one JSON object per line. console: text for people."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its directory is fixed when the class is created
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A settings file comes after variables; files with one setting each come last."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings, dotenv_settings)
        if file := os.environ.get(SETTINGS_FILE):
            sources += (InitSettingsSource(settings_cls, read_settings_file(Path(file), settings_cls.model_fields)),)
        directory = os.environ.get(SECRETS_DIR)
        if not directory:
            return sources
        if not Path(directory).is_dir():
            message = f"{SECRETS_DIR} is {directory}, which is not a directory; mount it, or unset the variable."
            raise SettingsError(message)
        return (*sources, SecretsSettingsSource(settings_cls, secrets_dir=directory))

    @field_validator("api_keys", "producer_forms", mode="before")
    @classmethod
    def _parse_list(cls, value: object) -> object:
        return _parts(value) if isinstance(value, str) else value

    @field_validator("allowed_networks", "trusted_proxies", mode="before")
    @classmethod
    def _parse_networks(cls, value: object) -> object:
        # Not strict: 127.0.0.1/8 means 127.0.0.0/8.
        return tuple(ip_network(part, strict=False) for part in _parts(value)) if isinstance(value, str) else value

    @field_validator("operational_url", "otlp_endpoint")
    @classmethod
    def _is_a_plain_url(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc):
            message = f"{info.field_name} must be an http(s) URL without a user name"
            raise ValueError(message)
        return value

    @field_validator("clickhouse_url")
    @classmethod
    def _names_a_server(cls, value: str) -> str:
        parts = urlsplit(value)
        if "@" in parts.netloc:
            message = "the URL must not contain a user name or password; set clickhouse_username and clickhouse_password"
            raise ValueError(message)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or not _has_a_port(parts)):
            message = "must look like https://host:8443 or http://host:8123"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Settings:
        if self.request_timeout_seconds <= self.connect_timeout_seconds:
            message = (
                f"request_timeout_seconds ({self.request_timeout_seconds:g}) must be above "
                f"connect_timeout_seconds ({self.connect_timeout_seconds:g}): connecting is a part of a request"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _circuit_times_fit(self) -> Settings:
        if self.circuit_open_max_seconds < self.circuit_open_seconds:
            message = (
                f"circuit_open_max_seconds ({self.circuit_open_max_seconds:g}) must not be below "
                f"circuit_open_seconds ({self.circuit_open_seconds:g})"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _operational_receiver_is_whole(self) -> Settings:
        if not self.operational_url:
            return self
        if self.operational_secret is None:
            message = "operational_url needs operational_secret, which its deliveries are signed with"
            raise ValueError(message)
        try:
            SigningKey(self.operational_secret.get_secret_value())
        except ValueError as error:
            message = f"operational_secret: {error}"
            raise ValueError(message) from None
        return self

    @model_validator(mode="after")
    def _egress_proxy_is_whole(self) -> Settings:
        for field, credentials in (("egress_proxy", None), ("egress_proxy_credentials", self.egress_proxy_credentials)):
            try:
                if self.egress_proxy:
                    egress_proxy(self.egress_proxy, credentials.get_secret_value() if credentials else None)
            except ValueError as error:
                message = f"{field} {error}"
                raise ValueError(message) from None
        return self

    @model_validator(mode="after")
    def _event_types_can_be_read(self) -> Settings:
        self.event_types  # noqa: B018 - problems with the file are reported at startup
        return self

    @model_validator(mode="after")
    def _forms_are_of_topics_that_are_read(self) -> Settings:
        for each in self.producer_forms:
            topic, _, form = each.partition("=")
            if topic not in self.topics.sources:
                sources = ", ".join(self.topics.sources)
                message = f"producer_forms: {each!r} does not name a topic of events; write one of {sources}, then = and its form"
                raise ValueError(message)
            if form not in set(ProducerForm):
                message = f"producer_forms: {form!r} is not a form; write {topic}= and one of {', '.join(ProducerForm)}"
                raise ValueError(message)
        return self

    @property
    def event_types(self) -> EventTypes:
        """The event types of this deployment, read once."""
        if self._event_types is None:
            self._event_types = EventTypes(read_event_types(self.event_types_file)) if self.event_types_file else BUILT_IN
        return self._event_types

    def knowing(self, types: EventTypes) -> Settings:
        """The same settings, with the event types of a running pipeline."""
        copy = self.model_copy()
        copy._event_types = types  # noqa: SLF001 - its own
        return copy

    @property
    def has_lasting_store(self) -> bool:
        """Whether what is stored in ClickHouse outlives the process. Otherwise it is in a temporary directory."""
        return bool(self.clickhouse_url) or self.clickhouse_path is not None

    @property
    def proxy(self) -> EgressProxy | None:
        """The egress proxy, if there is one."""
        credentials = self.egress_proxy_credentials
        return (
            egress_proxy(self.egress_proxy, credentials.get_secret_value() if credentials else None)
            if self.egress_proxy
            else None
        )

    @property
    def event_reader(self) -> EventReader:
        """The reader of records from the source topics."""
        forms = {topic: ProducerForm(form) for topic, _, form in (each.partition("=") for each in self.producer_forms)}
        return EventReader(self.event_types, self.topics, max_bytes=self.max_event_bytes, forms=forms)

    @property
    def slow_budget(self) -> int:
        """The most requests in progress to all slow endpoints together, so that both limits leave room for the others.

        The same number of deliveries may wait for slow endpoints. Each holds a record: at most half of all records.
        """
        return max(1, min(self.max_in_flight // 2, self.max_outstanding_records // 4))

    @property
    def topics(self) -> Topics:
        """The topics of this deployment."""
        return self.topics_with(())

    def topics_with(self, event_topics: Iterable[str]) -> Topics:
        """The same topics, plus further topics of event types, named without the prefix."""
        known = {*SOURCE_TOPICS, *self.event_types.more_topics}
        more = (*self.event_types.more_topics, *dict.fromkeys(topic for topic in event_topics if topic not in known))
        return Topics(self.retry_policies.delays, self.kafka_topic_prefix, timedelta(days=self.hold_days), more)

    def shown(self) -> dict[str, str]:
        """Every setting as text for people; secrets are redacted by their type."""
        texts = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: _shown(value) for name, value in texts.items()}

    def toml(self) -> str:
        """A settings file that describes every setting and sets those that differ from their defaults. It holds no secrets."""
        fields = type(self).model_fields
        secrets = {name for name, field in fields.items() if "Secret" in str(field.annotation)}
        changed = {name for name, field in fields.items() if getattr(self, name) != field.get_default()}
        return as_toml(self.shown(), {name: field.description or "" for name, field in fields.items()}, secrets, changed)


def _has_a_port(url: SplitResult) -> bool:
    """Whether the port is possible; without one, ClickHouse's default is used."""
    try:
        return url.port != 0
    except ValueError:
        return False


def _not_utf8() -> str:
    """Which of the files that pydantic reads is not UTF-8."""
    directory = os.environ.get(SECRETS_DIR)
    for path in (Path(".env"), *(sorted(Path(directory).glob("*")) if directory else ())):
        try:
            if path.is_file():
                path.read_bytes().decode()
        except UnicodeDecodeError:
            return str(path.absolute())
    return f".env, or a file in {SECRETS_DIR},"


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _shown(value: object) -> str:
    match value:
        case timedelta():
            return delay_label(value)
        case tuple():
            return ",".join(_shown(part) for part in value)
        case None:
            return ""
        case _:
            return str(value)
