"""Checks the egress proxy: for ``oms-webhooks settings --check``, ``oms-webhooks doctor``, and the health checks of a process."""

from __future__ import annotations

from typing import Final

from pipeline.core.egress_proxy import EgressProxy, ProxyFault
from pipeline.ops.reachability import CONNECT_SECONDS, CheckResult
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import Resolve, resolve_host
from pipeline.sender.proxy_monitor import PROBE_PORT
from pipeline.sender.tunnels import EgressProxyError, Tunnels

_ANSWERED: Final = frozenset({ProxyFault.NO_TARGET, ProxyFault.TARGET_SPOKE_FIRST})


class ProxyDownError(Exception):
    """The egress proxy opens no tunnels. ``str(error)`` says why, without credentials."""


async def check_egress_proxy(proxy: EgressProxy, guard: AddressGuard, probe_name: str) -> None:
    """Raises ProxyDownError if the proxy opens no tunnels."""
    if problem := (await egress_proxy_finding(proxy, guard, probe_name)).problem:
        raise ProxyDownError(problem)


async def egress_proxy_finding(
    proxy: EgressProxy, guard: AddressGuard, probe_name: str, *, resolve: Resolve = resolve_host, seconds: float = CONNECT_SECONDS
) -> CheckResult:
    """Ask for a tunnel to port 443 of a name, and close it: this also checks the credentials.

    The proxy works even if it answers that it cannot reach that name. If the name does not resolve here, only the connection is
    tried.
    """
    tunnels = Tunnels(proxy, guard, resolve, seconds)
    try:
        await tunnels.probe(probe_name, PROBE_PORT)
    except EgressProxyError as error:
        return CheckResult(f"Egress proxy: {proxy.name}", _problem(error, probe_name))
    except OSError:
        return await _connection(proxy, tunnels)
    finally:
        await tunnels.close()
    return CheckResult(f"Egress proxy: {proxy.name}")


async def _connection(proxy: EgressProxy, tunnels: Tunnels) -> CheckResult:
    try:
        await tunnels.reach_proxy()
    except EgressProxyError as error:
        return CheckResult(f"Egress proxy: {proxy.name}", error.message)
    return CheckResult(f"Egress proxy: {proxy.name} (connection only: resolver_probe_name does not resolve here)")


def _problem(error: EgressProxyError, probe_name: str) -> str | None:
    if error.fault in _ANSWERED:
        return None
    if error.fault in {ProxyFault.SILENT, ProxyFault.REFUSED}:
        asked = f"It was asked for {probe_name}:{PROBE_PORT}."
        return f"{error.message} {asked} If it is not allowed to reach that, set resolver_probe_name to a name that it can reach."
    return error.message
