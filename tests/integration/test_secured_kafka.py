"""A real Apache Kafka with TLS and SASL: every mechanism logs in, and two fan-out processes share its partitions."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from consumers.cli.settings_check import check_settings
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.contract.broker.conftest import CLIENTS
from tests.contract.token_endpoint import CLIENT_ID, CLIENT_SECRET, token_endpoint
from tests.faults.deployment import Deployment, deployed, simulated_events
from tests.faults.processes import COMMAND, RoleProcess
from tests.faults.receivers import Behaviour
from tests.secure_kafka import SecureKafka, unsigned_token
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.timeout(240)]

USER = "webhooks"
PASSWORD = "sasl-hunter2"
PARTITIONS = 4
SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 2.0
EVENTS = 400


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    secured = SecureKafka(tmp_path_factory.mktemp("secured") / "kafka", {USER: PASSWORD})
    secured.broker.start()
    yield secured
    secured.broker.stop()


def log_in(**values: str) -> list[str]:
    with KafkaTopicAdmin(Settings(_env_file=None, **values), 5.0) as admin:  # type: ignore[arg-type]
        return admin.names()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_password_logs_in(kafka: SecureKafka, mechanism: str) -> None:
    assert isinstance(log_in(**kafka.settings(mechanism, USER)), list)


def oauth(kafka: SecureKafka) -> dict[str, str]:
    return {
        "kafka_bootstrap_servers": kafka.address,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_ssl_cafile": str(kafka.ca_file),
        "kafka_sasl_mechanism": "OAUTHBEARER",
    }


def test_a_token_from_an_endpoint_logs_in(kafka: SecureKafka) -> None:
    with token_endpoint() as endpoint:
        given = {
            "kafka_oauth_token_url": endpoint.url,
            "kafka_oauth_client_id": CLIENT_ID,
            "kafka_oauth_client_secret": CLIENT_SECRET,
            "kafka_oauth_scope": "kafka",
        }
        assert isinstance(log_in(**oauth(kafka), **given), list)
        assert len(endpoint.asked) == 1


def test_a_token_from_a_file_logs_in(kafka: SecureKafka, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(unsigned_token(USER, time.time(), 60))
    assert isinstance(log_in(**oauth(kafka), kafka_oauth_token_file=str(path)), list)


async def problem(**values: str) -> str:
    """Return the only problem that `settings --check` finds."""
    found = [finding for finding in await check_settings(Settings(_env_file=None, **values)) if finding.problem]  # type: ignore[arg-type]
    assert len(found) == 1, found
    assert "hunter2" not in str(found)
    return str(found[0].problem)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"kafka_sasl_password": "wrong-hunter2"},
            # Whether "Wrong user name or password" is read depends on timing: the broker closes the connection after it.
            "OMS_WEBHOOKS_KAFKA_SASL_USERNAME, OMS_WEBHOOKS_KAFKA_SASL_PASSWORD",
        ),
        ({"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_password": "wrong-hunter2"}, "The brokers refuse the login"),
        (
            {"kafka_sasl_mechanism": "SCRAM-SHA-256"},
            "The brokers do not offer SCRAM-SHA-256, but OAUTHBEARER, PLAIN, SCRAM-SHA-512",
        ),
        ({"kafka_security_protocol": "SSL"}, "it may require SASL"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT"}, "This port speaks TLS"),
    ],
)
async def test_a_failed_login_is_explained(kafka: SecureKafka, changed: dict[str, str], said: str) -> None:
    assert said in await problem(**(kafka.settings("SCRAM-SHA-512", USER) | changed))


async def test_a_certificate_of_an_unknown_authority_is_explained(kafka: SecureKafka) -> None:
    given = kafka.settings("SCRAM-SHA-512", USER)
    del given["kafka_ssl_cafile"]
    assert "Its certificate is not trusted" in await problem(**given)


async def test_a_missing_or_expired_token_is_explained(kafka: SecureKafka, tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert "There is no token: " in await problem(**oauth(kafka), kafka_oauth_token_file=str(path))
    path.write_text(unsigned_token(USER, time.time() - 100, 50))
    assert "The brokers refuse the token" in await problem(**oauth(kafka), kafka_oauth_token_file=str(path))
    with token_endpoint() as endpoint:
        given = {"kafka_oauth_client_id": CLIENT_ID, "kafka_oauth_client_secret": "wrong-hunter2"}
        assert "answers 401" in await problem(**oauth(kafka), kafka_oauth_token_url=endpoint.url, **given)


def environment(kafka: SecureKafka, **changed: str) -> dict[str, str]:
    """Return a role's environment, with a wrong password."""
    given = kafka.settings("SCRAM-SHA-512", USER) | {
        "kafka_sasl_password": "wrong-hunter2",
        "encryption_key": Vault.new_key(),
        "api_keys": "a-key",
    }
    return {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in (given | changed).items()}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {},
            f"refuse the login as {USER}. ",  # and why, unless the broker closes the connection before the reason is read
        ),
        ({"kafka_sasl_mechanism": "SCRAM-SHA-256"}, "OMS_WEBHOOKS_KAFKA_SASL_MECHANISM"),
        ({"kafka_ssl_cafile": "another authority"}, "Its certificate is not trusted"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT"}, "This port speaks TLS"),
        ({"kafka_security_protocol": "SSL"}, "it may require SASL"),
    ],
)
@pytest.mark.parametrize("kafka_client", CLIENTS)
async def test_a_refused_role_stays_up_and_says_why(
    kafka: SecureKafka, tmp_path: Path, changed: dict[str, str], said: str, kafka_client: str
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "another authority")
    role = RoleProcess("fanout", environment(kafka, **changed, kafka_client=kafka_client), tmp_path)
    role.start()
    try:
        async with httpx.AsyncClient(base_url=role.url, trust_env=False, timeout=60) as client:

            async def problem_with_kafka() -> httpx.Response | None:
                role.check_alive()
                try:
                    ready = await client.get("/readyz")
                except httpx.TransportError:
                    return None
                return ready if said in ready.json().get("problems", {}).get("kafka", "") else None

            ready = await until(problem_with_kafka, role.log_end)
            assert ready is not None
            assert (ready.status_code, (await client.get("/healthz")).status_code) == (503, 200)
        assert await role.metric("oms_webhooks_dependency_up", dependency="kafka") == 0
        assert await role.terminate(60) < 20
    finally:
        role.clean_up()
    log = (tmp_path / "fanout.log").read_text()
    assert [line for line in log.splitlines() if '"level": "error"' in line] == [
        line for line in log.splitlines() if "a dependency cannot be used" in line
    ]
    assert "hunter2" not in log
    assert "Traceback" not in log


def test_a_command_in_a_terminal_reports_it_at_once(kafka: SecureKafka, tmp_path: Path) -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")}
    variables = environment(kafka, http_port="0")
    done = subprocess.run(
        [COMMAND, "all"], cwd=tmp_path, env=outside | variables, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 1
    assert "Wrong user name or password" in done.stderr.splitlines()[-1]
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


async def until_shared(deployment: Deployment, names: tuple[str, ...], seconds: float) -> dict[str, int]:
    """Wait until these processes hold all partitions, each of them some; returns how many each has."""
    topics = deployment.settings.topics
    everything = frozenset(
        (topic, number) for topic in (*topics.sources, topics.operational_events) for number in range(PARTITIONS)
    )
    shares: dict[str, frozenset[tuple[str, int]]] = {}

    async def are_shared() -> bool:
        shares.update({name: await deployment.roles[name].holds(topics.fanout_group) for name in names})
        return all(shares.values()) and frozenset().union(*shares.values()) == everything

    await until(are_shared, lambda: shares, seconds=seconds)
    return {name: len(share) for name, share in shares.items()}


@pytest.mark.parametrize("client", CLIENTS)
async def test_two_workers_share_the_partitions_and_one_takes_over(
    kafka: SecureKafka, tmp_path: Path, topic_prefix: str, client: str
) -> None:
    given: dict[str, Any] = {**kafka.settings("SCRAM-SHA-512", USER), "kafka_client": client}
    async with deployed(
        tmp_path,
        kafka.broker.bootstrap_servers,  # for the test itself; the product gets the secured address
        topic_prefix,
        roles=("api", "fanout"),
        behaviour=Behaviour(),
        **given,
    ) as deployment:
        second = deployment.launch("fanout", "fanout-2")
        await second.until_ready()
        shares = await until_shared(deployment, ("fanout", "fanout-2"), 30)
        print(f"partitions held: {shares}")
        assert max(shares.values()) - min(shares.values()) <= 1

        events = simulated_events(2 * EVENTS, seed=7)
        await deployment.publish(events[:EVENTS], rate=200)
        made = [await process.metric("oms_webhooks_attempts_total") for process in (deployment.roles["fanout"], second)]
        assert all(made), f"attempts per worker: {made}"

        second.kill()
        killed_at = time.monotonic()
        publishing = asyncio.create_task(deployment.publish(events[EVENTS:], rate=100))
        await until_shared(deployment, ("fanout",), SESSION_SECONDS + 2 * HEARTBEAT_SECONDS)
        print(f"{shares['fanout-2']} partitions moved {time.monotonic() - killed_at:.1f} s after kill -9")
        await publishing
        deployment.roles.pop("fanout-2")
        await deployment.settle(60)
