"""Correctness depends only on the public API of kafka-python and aiohttp: only two modules use private parts, for speed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPAT = {"pipeline/broker/kafka/compat.py", "pipeline/sender/compat.py"}
PUBLIC = {
    "kafka": None,
    "kafka.admin": None,
    "kafka.errors": None,
    "kafka.structs": None,
    # Values and types of settings, which kafka-python documents at these addresses.
    "kafka.coordinator.assignors.cooperative_sticky": {"CooperativeStickyAssignor"},
    "kafka.net.sasl.oauth": {"AbstractTokenProvider"},
    "aiohttp": None,
    "aiohttp.abc": None,
    "aiohttp.hdrs": None,
    "aiohttp.typedefs": None,
    "aiohttp.web": None,
}
"""The modules that may be imported, and which of their names; None: all without an underscore."""


def modules() -> Iterator[Path]:
    for package in ("consumers", "pipeline", "schemas"):
        yield from (path for path in (ROOT / package).rglob("*.py") if path.relative_to(ROOT).as_posix() not in COMPAT)


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Yield what is imported of the two libraries: modules, and names from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found: list[tuple[str, str | None]] = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from (each for each in found if each[0].partition(".")[0] in {"kafka", "aiohttp"})


def is_public(module: str, name: str | None) -> bool:
    if module not in PUBLIC:
        return False
    names = PUBLIC[module]
    if name is None:
        return names is None
    return not name.startswith("_") and (names is None or name in names)


def private_attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yield attributes with one underscore of anything but an object's own class."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        owner = node.value
        is_own = isinstance(owner, ast.Name) and owner.id in {"self", "cls", "other"}
        if not is_own:
            yield node


def violations(text: str) -> list[str]:
    """Return what a module uses and must not use."""
    if "kafka" not in text and "aiohttp" not in text:
        return []
    tree = ast.parse(text)
    used = list(imported(tree))
    found = [f"imports {module} {name or ''}" for module, name in used if not is_public(module, name)]
    if used:
        found += [f"line {node.lineno}: .{node.attr}" for node in private_attributes(tree)]
    return found


def test_only_the_compat_modules_use_private_parts_of_the_two_libraries() -> None:
    found = {path.relative_to(ROOT).as_posix(): violations(path.read_text()) for path in modules()}
    assert len(found) > 200
    assert {path: what for path, what in found.items() if what} == {}


def test_private_parts_are_found() -> None:
    for text in (
        "from kafka.net.transport import KafkaTCPTransport",
        "import kafka.net.manager",
        "def lazily():\n    from aiohttp.client_proto import ResponseHandler",
        "from aiohttp import _cookie_helpers",
        "from kafka.net.sasl.oauth import SaslMechanismOAuth",
        "import kafka\ndef f(consumer): return consumer._coordinator.heartbeat",
    ):
        assert len(violations(text)) == 1, text
    for path in COMPAT:
        assert violations((ROOT / path).read_text())


_WITHOUT_WHAT_IS_PRIVATE = """
import importlib, importlib.metadata, pkgutil, sys
import aiohttp, aiohttp.web, kafka, kafka.net.manager, kafka.net.sasl.oauth
import kafka.coordinator.assignors.cooperative_sticky

gone = {"kafka.net.transport", "kafka.net.manager", "kafka.net.selector", "kafka.future", "kafka.protocol.parser", "kafka.protocol.sasl"}
gone |= {f"aiohttp.{name}" for name in ("client_proto", "client_reqrep", "connector", "http_exceptions", "http_parser", "http_writer", "streams")}

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name in gone:
            raise ModuleNotFoundError(name)

for name in gone:
    sys.modules.pop(name, None)
    parent, _, child = name.rpartition(".")
    vars(sys.modules[parent]).pop(child, None)
sys.meta_path.insert(0, Gone())
installed = importlib.metadata.version
newer = {"kafka-python": "3.1.0.dev0", "aiohttp": "4.0.0"}
importlib.metadata.version = lambda name: newer.get(name) or installed(name)

for package in ("schemas", "pipeline", "consumers"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if module.name != "pipeline.sender.compat" and not module.name.endswith("__main__"):
            importlib.import_module(module.name)

import asyncio
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.compat import Hooks
from pipeline.ops.settings import Settings
from pipeline.sender.client import Sender
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.limits import SenderLimits

broker = open_broker(Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1"))
assert type(broker._hooks) is Hooks, broker._hooks

async def main():
    async with Sender(SenderLimits(), AddressGuard()) as sender:
        print(type(sender._transport).__name__)

asyncio.run(main())
"""


@pytest.mark.slow  # make test-plain delivers without the private parts
def test_the_product_runs_without_the_private_parts_and_says_so_once() -> None:
    """It takes seconds: a process loads everything."""
    command = (sys.executable, "-W", "ignore", "-c", _WITHOUT_WHAT_IS_PRIVATE)
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "SessionTransport" in done.stdout
    assert done.stdout.count("kafka-python is used without speed-ups") == 1
    assert done.stdout.count("webhooks are sent without speed-ups") == 1
    assert "3.1.0.dev0 is installed" in done.stdout
    assert "4.0.0 is installed" in done.stdout
