"""The settings of Kafka: where it is, how to log in, and how to create topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _named_path(value: object) -> object:
    """None for an empty text, which names no file. For pathlib, it is the working directory."""
    return None if isinstance(value, str) and not value.strip() else value


OptionalPath = Annotated[Path | None, BeforeValidator(_named_path)]
"""The type of settings that name a file or a directory."""


def addresses(servers: str) -> list[tuple[str, int]]:
    """Hosts and ports of ``kafka_bootstrap_servers``; none if it is empty.

    Raises:
        ValueError: one is not host:port.
    """
    found = []
    for server in servers.split(",") if servers else ():
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
            message = f'"{server.strip()}" is not host:port; write, for example, kafka-1:9092,kafka-2:9092'
            raise ValueError(message)
        found.append((host.strip("[]"), int(port)))
    return found


class KafkaSettings(BaseSettings):
    """A part of Settings."""

    kafka_bootstrap_servers: str = Field(
        default="", description="host:port of one or more brokers, comma-separated. Empty: `all` starts an embedded broker."
    )
    kafka_client: Literal["kafka-python", "librdkafka"] = Field(
        default="kafka-python",
        description="The Kafka client library. librdkafka uses less CPU time and needs the extra oms-webhooks[librdkafka].",
    )
    kafka_topic_prefix: str = Field(default="", description="Prefix of every topic and group id.", pattern=r"^[A-Za-z0-9._-]*$")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to connect to the brokers."
    )
    kafka_ssl_cafile: OptionalPath = Field(default=None, description="PEM file of the CA that signed the brokers' certificates.")
    kafka_ssl_certfile: OptionalPath = Field(default=None, description="PEM file of the client certificate (mutual TLS).")
    kafka_ssl_keyfile: OptionalPath = Field(default=None, description="PEM file of the client certificate's key.")
    kafka_ssl_password: SecretStr | None = Field(default=None, description="Password of the client certificate's key.")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None, description="SASL mechanism, with SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_sasl_username: str | None = Field(default=None, description="SASL user name.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    kafka_oauth_token_file: OptionalPath = Field(
        default=None,
        description="OAUTHBEARER: file with a token that another program keeps fresh (Kubernetes: a projected service account token). "
        "It is read for every connection.",
    )
    kafka_oauth_token_url: str = Field(
        default="", description="OAUTHBEARER: token endpoint of an OpenID provider (client credentials grant)."
    )
    kafka_oauth_client_id: str = Field(default="", description="OAUTHBEARER: client id for kafka_oauth_token_url.")
    kafka_oauth_client_secret: SecretStr | None = Field(default=None, description="OAUTHBEARER: client secret.")
    kafka_oauth_scope: str = Field(default="", description="OAUTHBEARER: scope to request. Empty: the provider's default.")
    kafka_oauth_cafile: OptionalPath = Field(
        default=None, description="OAUTHBEARER: PEM file of the CA of kafka_oauth_token_url. Empty: the well-known CAs."
    )
    kafka_partitions: int = Field(default=6, ge=1, le=1024, description="Number of partitions of topics that are created.")
    kafka_replication_factor: int = Field(
        default=-1,
        description="Number of replicas of topics that are created. -1: as many as there are brokers, up to 3, or the broker's default if "
        "that is higher.",
    )
    kafka_min_insync_replicas: int = Field(
        default=-1,
        description="How many replicas must store a record before it is acknowledged (min.insync.replicas of the topics). -1: 2 for topics "
        "with 3 replicas, the broker's default for others.",
    )
    kafka_session_timeout_ms: int = Field(
        default=10_000, ge=1_000, description="A consumer that sends no heartbeat for this long is removed from its group."
    )
    kafka_metadata_max_age_ms: int = Field(
        default=30_000,
        ge=1_000,
        description="How often clients look for new partitions. Records in a new partition wait until then.",
    )
    kafka_fetch_max_wait_ms: int = Field(
        default=500, ge=1, description="How long the broker may delay a fetch that finds no records."
    )
    kafka_static_members: bool = Field(
        default=True,
        description="Static membership: a process that restarts after a crash gets its partitions back immediately. Off: no partition of "
        "the crashed process is read until its session times out.",
    )
    kafka_speedups: bool = Field(
        default=True,
        description="Whether private parts of kafka-python may be used to save CPU time. They are never used with a version that this was "
        "not tested with.",
    )
    kafka_linger_ms: int = Field(default=40, ge=0, description="How long the producer waits to fill a batch.")

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _servers_have_ports(cls, value: str) -> str:
        addresses(value)
        return value

    @field_validator("kafka_oauth_token_url")
    @classmethod
    def _token_url_is_safe(cls, value: str) -> str:
        url = urlsplit(value)
        if value and not (url.hostname and (url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK))):
            message = (
                "must be an https:// URL, because the client secret is sent there (http:// is allowed to this machine itself)"
            )
            raise ValueError(message)
        if "@" in url.netloc:
            message = "must not contain a user name or password; set kafka_oauth_client_id and kafka_oauth_client_secret"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> KafkaSettings:
        if not self.kafka_security_protocol.startswith("SASL"):
            return self
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            by_url = bool(self.kafka_oauth_token_url)
            if by_url == (self.kafka_oauth_token_file is not None):
                message = "OAUTHBEARER needs either kafka_oauth_token_file or kafka_oauth_token_url"
                raise ValueError(message)
            if by_url and not (self.kafka_oauth_client_id and self.kafka_oauth_client_secret):
                message = "kafka_oauth_token_url needs kafka_oauth_client_id and kafka_oauth_client_secret"
                raise ValueError(message)
        elif not (self.kafka_sasl_mechanism and self.kafka_sasl_username and self.kafka_sasl_password):
            message = "SASL needs kafka_sasl_mechanism, kafka_sasl_username and kafka_sasl_password"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _replicas_fit(self) -> KafkaSettings:
        if 0 < self.kafka_replication_factor < self.kafka_min_insync_replicas:
            message = (
                f"kafka_min_insync_replicas ({self.kafka_min_insync_replicas}) is above kafka_replication_factor "
                f"({self.kafka_replication_factor}): no record would ever be acknowledged"
            )
            raise ValueError(message)
        return self
