"""A real Apache Kafka with everything that a production cluster has: TLS, SASL, and, on request, ACLs.

It keeps its plain listener, on loopback, for the broker itself and for the tests' own administration; what is tested uses the
secured one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.devtools.local_process import HOST, free_port

_LISTENER = "SECURE"
_SECURITY = "org.apache.kafka.common.security"
_SESSION_MS = 6_000


@dataclass
class SecureKafka:
    """A Kafka with TLS and SASL. ``users`` have passwords for SCRAM-SHA-512 and PLAIN; OAUTHBEARER accepts unsigned tokens."""

    directory: Path
    users: Mapping[str, str]
    with_acls: bool = False
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self.ca_file = self.directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        _write_keystore(authority, self.directory / "server.pem")
        self.broker = ApacheKafkaBroker(
            data_dir=self.directory,
            server_properties=self._properties(),
            listeners={_LISTENER: self.port},
            format_options=[
                option
                for user, password in self.users.items()
                for option in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
            ],
        )

    @property
    def address(self) -> str:
        """The address of the secured listener."""
        return f"{HOST}:{self.port}"

    def settings(self, mechanism: str, user: str) -> dict[str, str]:
        """Return the settings of a client, as text."""
        return {
            "kafka_bootstrap_servers": self.address,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_ssl_cafile": str(self.ca_file),
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": user,
            "kafka_sasl_password": self.users[user],
        }

    def _properties(self) -> dict[str, str]:
        prefix = f"listener.name.{_LISTENER.lower()}"
        passwords = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
        properties = {
            "listener.security.protocol.map": f"{_LISTENER}:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            f"{prefix}.scram-sha-512.sasl.jaas.config": f"{_SECURITY}.scram.ScramLoginModule required;",
            f"{prefix}.plain.sasl.jaas.config": f"{_SECURITY}.plain.PlainLoginModule required {passwords};",
            f"{prefix}.oauthbearer.sasl.jaas.config": f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "server.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "ca.pem",
            "group.min.session.timeout.ms": str(_SESSION_MS),
        }
        if self.with_acls:
            properties |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",  # clients of the plain listener: the broker, and the tests' administration
            }
        return properties


def _write_keystore(authority: trustme.CA, path: Path) -> None:
    """Write the certificate, and the key as PKCS #8, the form that Kafka reads."""
    issued = authority.issue_cert(HOST, "localhost", not_after=datetime(2040, 1, 1, tzinfo=UTC))
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def unsigned_token(user: str, issued_at: float, lifetime_seconds: float) -> str:
    """Return what Kafka's validator for development accepts: a JSON web token without a signature."""
    header = {"alg": "none"}
    claims = {"sub": user, "iat": issued_at, "exp": issued_at + lifetime_seconds}
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join(parts) + "."
