"""A broker as a child process on loopback: chooses its port, waits until it answers, and ends it with this process."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

HOST = "127.0.0.1"
ELSEWHERE = "or set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS to a broker that is running already"
_PORT_ATTEMPTS = 5

# A small Python process runs this and then becomes the broker: Linux keeps PR_SET_PDEATHSIG (1) across exec. A preexec_fn would do
# the same in a fork of a process with threads, which can deadlock. If the parent exits before the prctl call, no signal is sent, so
# getppid() is checked.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if ctypes.CDLL(None).prctl(1, signal.SIGKILL) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG) failed")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""

# A metadata request (v2) for no topics: api key 3, version 2, correlation id, null client id, empty array. Brokers answer it once
# they serve clients, and the answer contains their cluster id. A client library would leak a thread if its bootstrap failed.
_METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 2, 1, -1, 0)


class BrokerStartError(RuntimeError):
    """A local broker could not be started; the message says why and what to do."""


class _Child:
    """A process in a separate session (Ctrl-C does not reach it) that ends when this process ends.

    Linux sends the death signal when the *thread* that forked the child ends, so a separate thread forks it and waits for it. On
    other systems, only a regular exit of this process ends the child.
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
        """SIGTERM, then SIGKILL if it has not ended within `timeout` seconds."""
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


class BrokerProcess(ABC):
    """What both brokers have in common: choosing a port, waiting until the broker answers, ending it."""

    name: str
    durable: bool
    _advice: str
    _start_seconds: float  # when to give up
    _stop_seconds: float  # when to send SIGKILL

    def __init__(self, *, directory: Path | None, log_path: Path | None) -> None:
        self._directory = directory
        self._log_path = log_path
        self._port: int | None = None
        self._child: _Child | None = None

    @abstractmethod
    def _prepare(self, port: int) -> tuple[Sequence[str], str]:
        """Prepare a start on `port`; return the command and the future cluster id."""

    @property
    def bootstrap_servers(self) -> str:
        if self._port is None:
            raise RuntimeError("A broker has no address before its first start().")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        if self.pid is not None:
            return self.bootstrap_servers
        # Clients know the port of a broker that is restarted; only the first start may choose one.
        ports = [self._port] if self._port is not None else [free_port() for _ in range(_PORT_ATTEMPTS)]
        for port in ports:
            if self._start_on(port):
                self._port = port
                return self.bootstrap_servers
        taken = ", ".join(map(str, ports))
        raise BrokerStartError(f"{self.name}: another process uses port {taken}. Stop it, {ELSEWHERE}.")

    def stop(self) -> None:
        if self._child is not None:
            self._child.terminate(self._stop_seconds)
        self._forget_child()

    def _forget_child(self) -> None:
        self._child = None
        atexit.unregister(self.stop)

    def _start_on(self, port: int) -> bool:
        """Start on `port` and wait; False if another process has the port."""
        command, cluster_id = self._prepare(port)
        try:
            self._child = child = _Child(command, directory=self._directory, log_path=self._log_path)
        except OSError as error:
            raise BrokerStartError(f"{self.name} cannot be run: {error}. {self._advice}") from error
        atexit.register(self.stop)
        deadline = time.monotonic() + self._start_seconds
        # A broker whose port is taken exits; the cluster id distinguishes it from the broker that has the port.
        while child.alive and time.monotonic() < deadline:
            if _answers(port, cluster_id):
                return True
            time.sleep(0.01)
        problem = "did not answer in time" if child.alive else "exited while it started"
        self.stop()
        if _accepts(port):
            return False
        raise BrokerStartError(f"{self.name} {problem}. {self._advice}{_end_of_log(self._log_path)}")


def free_port() -> int:
    """Return a free loopback port below the ephemeral ranges of Linux and macOS.

    A client that keeps connecting to an unused ephemeral port may be assigned that same port, connect to itself, and prevent a
    restarted broker from using it.

    No other call on this machine returns the same port while this process lives, because its user may start late or be restarted.
    The UDP port of the same number marks it as taken.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                claim.bind((HOST, port))
                probe.bind((HOST, port))
            except OSError:
                claim.close()
                continue
        claim.detach()
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(port: int, cluster_id: str) -> bool:
    """Whether the broker of `cluster_id` answers a metadata request on `port` and lists itself."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection, connection.makefile("rb") as replies:
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
