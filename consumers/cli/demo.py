"""``make demo``: the whole pipeline, a simulated OMS and two receivers in one process. At the end, the numbers must add up."""

from __future__ import annotations

import asyncio
import json
import operator
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.cli import tables
from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.console import visible
from consumers.cli.embedded import EmbeddedServices, KafkaKind, embedded_services
from consumers.cli.runtime_files import leave_note, note_of
from consumers.cli.traffic import simulate
from consumers.run import ALL_ROLES, running
from pipeline.core.counted import counted
from pipeline.devtools.local_process import BrokerStartError
from pipeline.devtools.receiver import Behaviour, Received, Receiver
from pipeline.devtools.simulator import SimulatedEvent
from pipeline.ops.logs import configure_logs
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import setting_source
from schemas.event import EventType
from schemas.topics import parse_delay

# Short enough to watch: a notification that fails six times ends after ten seconds.
DEMO_DELAYS = "1s,1s,2s,3s,3s"
_SHARE_OF_TIME_FOR_EVENTS = 0.6
_LAST_RETRIES_SECONDS = 12.0
"""After the last event, no longer than this is kept free for its retries."""
_SETTLE_SECONDS = 60.0
_SETTLE_SECONDS_AFTER_CTRL_C = 1.0
_COUNTING_SECONDS_AFTER_CTRL_C = 2.5
_POLL_SECONDS = 0.25
_DRAIN_SECONDS = 1.0
"""Short, so that nobody waits long for the prompt if their own endpoint hangs."""
_PICTURE = """
  shop ──► Kafka ──► fan-out ──► erp      gets every event and accepts it
                        │  └───► mailer   gets shipments and fails a third
                        │           ▲
                        ├─► retry ──┘     after 1 to 3 s, up to five times
                        └─► recorder ──► ClickHouse ◄── dashboard, API
"""
_NEXT = """What to try next:
  make demo              leave it running; open the dashboard, look up an order
  oms-webhooks all       your own endpoints: see docs/get-started.md
  oms-webhooks --help    all commands"""
_SHIPMENT_EVENTS = (EventType.SHIPMENT_SHIPPED, EventType.SHIPMENT_UPDATED, EventType.SHIPMENT_DELIVERY_STATUS_UPDATED)
_STOCK_EVENTS: Final = (EventType.STOCK_ITEM_BACK_IN_STOCK, EventType.STOCK_ITEM_OUT_OF_STOCK)
_EVERYTHING: Final = "erp"
"""The endpoint that gets every event."""
_SUBSCRIPTIONS: Final[dict[str, tuple[EventType, ...]]] = {_EVERYTHING: tuple(EventType), "mailer": _SHIPMENT_EVENTS}


@dataclass(slots=True)
class DemoLedger:
    """What was published, kept outside the pipeline."""

    events: Counter[str] = field(default_factory=Counter)
    latest: SimulatedEvent | None = None
    endpoints: list[int] = field(default_factory=list)
    """The ids of the demo's own endpoints."""

    def note(self, event: SimulatedEvent) -> None:
        """Count an event."""
        self.events[event.event_name.value] += 1
        if event.event_name is EventType.ORDER_COMPLETED:
            self.latest = event


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The numbers at the end, of the demo's own endpoints. ``wanted`` is how many notifications the subscriptions call for.

    ``by_hand``: somebody has published, resent or tested something, or changed the endpoints. Then the numbers need not add up.
    ``interrupted``: Ctrl-C was pressed, so retries may still be waiting.
    """

    events: int
    wanted: int
    outcomes: Counter[str]
    received: int
    acknowledged: int
    needle: str
    found: int
    found_wanted: int
    by_hand: bool = False
    interrupted: bool = False

    @property
    def unfinished(self) -> int:
        """How many notifications are neither delivered nor given up, as far as is recorded."""
        return self.wanted - self.outcomes["delivered"] - self.outcomes["exhausted"]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to wait for: all numbers add up."""
        return not replace(self, by_hand=False, interrupted=False).problems()

    def problems(self) -> list[str]:
        """The numbers that do not add up. After Ctrl-C, what is recorded may be less than what happened, but never more."""
        if self.by_hand:
            return []
        adds_up = operator.le if self.interrupted else operator.eq
        attempts, delivered, exhausted = sum(self.outcomes.values()), self.outcomes["delivered"], self.outcomes["exhausted"]
        checks = {
            f"{counted(self.wanted, 'notification was', 'notifications were')} due, {delivered} delivered + {exhausted} given up": adds_up(
                delivered + exhausted, self.wanted
            ),
            f"{counted(attempts, 'attempt is', 'attempts are')} recorded, but the receivers got {self.received}": adds_up(
                attempts, self.received
            ),
            f"{counted(delivered, 'is', 'are')} recorded as delivered, but the receivers acknowledged {self.acknowledged}": adds_up(
                delivered, self.acknowledged
            ),
            f"a body search for {self.needle} found {self.found} notifications of {self.found_wanted}": adds_up(
                self.found, self.found_wanted
            ),
            "no event was published": self.events > 0 or self.interrupted,
        }
        return [text for text, holds in checks.items() if not holds]


def run_demo(out: Console, *, kafka: KafkaKind | None, seconds: float | None, rate: float) -> int:
    """Run the demo. The exit code is 0 only if its numbers add up."""
    configure_logs("warning", "console")
    delays = tuple(map(parse_delay, DEMO_DELAYS.split(",")))
    networks = (ip_network("127.0.0.0/8"),)
    base = Settings(
        retry_delays=delays,
        patient_retry_delays=delays,
        impatient_retry_delays=delays,
        ramp_start_per_second=100,
        allowed_networks=networks,
        drain_seconds=_DRAIN_SECONDS,
    )
    _refuse_configured_kafka(base)
    base = base.model_copy(update={"http_port": _free(base.http_port)})
    out.print("Starting the broker...")
    with embedded_services(base, kafka) as here:
        settings = here.settings
        if here.broker is not None and here.broker.durable:
            # The numbers of this run must not mix with those of an earlier run on the same disk.
            settings = settings.model_copy(update=_fresh_names())
        try:
            return uvloop.run(_demo(out, EmbeddedServices(settings, here.broker), seconds, rate))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # Ctrl-C during the start, or pressed twice


def _refuse_configured_kafka(settings: Settings) -> None:
    """Invented orders must not reach real endpoints, and the demo's roles must not join the groups of real ones.

    Raises:
        BrokerStartError: the settings name a Kafka.
    """
    if settings.kafka_bootstrap_servers:
        raise BrokerStartError(
            f"The demo starts its own broker, but {setting_source('kafka_bootstrap_servers')} names the Kafka at "
            f"{settings.kafka_bootstrap_servers}. Invented orders would be delivered to the endpoints there. Remove that setting for the "
            "demo. To publish invented orders there anyway: oms-webhooks simulate"
        )


def _fresh_names() -> dict[str, object]:
    run = secrets.token_hex(3)
    return {"kafka_topic_prefix": f"demo-{run}.", "clickhouse_database": f"demo_{run}"}


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return port if probe.connect_ex(("127.0.0.1", port)) else 0


def _receivers(out: Console) -> dict[str, Receiver]:
    """A receiver that answers, and one that fails now and then."""
    mailer = Behaviour(fail_rate=0.35)
    return {
        "erp": Receiver("erp", on_delivery=lambda got: _print_delivery(out, "erp", got)),
        "mailer": Receiver("mailer", behaviour=mailer, on_delivery=lambda got: _print_delivery(out, "mailer", got)),
    }


async def _demo(out: Console, here: EmbeddedServices, seconds: float | None, rate: float) -> int:
    settings = here.settings
    key = settings.api_keys[0].get_secret_value()
    _on_interrupt_of_start(out)
    receivers = _receivers(out)
    out.print(_PICTURE, highlight=False)
    out.print("Starting ClickHouse and the pipeline...")
    async with running(settings, ALL_ROLES, ends_when_refused=True) as pipeline:
        with (
            leave_note(note_of(settings, pipeline.url)),
            ApiClient(pipeline.url, key) as client,
        ):
            out.print(tables.banner(here, pipeline.url, key))
            ledger = DemoLedger()
            for name, receiver in receivers.items():
                ledger.endpoints.append(await _register(client, receiver, await receiver.start(), _SUBSCRIPTIONS[name]))
            out.print("Each line is an attempt: time, event, what it is about, endpoint and response.\n")
            failed = asyncio.create_task(pipeline.until_failed())
            publish_for = max(seconds * _SHARE_OF_TIME_FOR_EVENTS, seconds - _LAST_RETRIES_SECONDS) if seconds else None
            simulated = simulate(settings, rate=rate, seed=secrets.randbelow(10**6), seconds=publish_for, on_event=ledger.note)
            publishing = asyncio.create_task(simulated)
            interrupted = _on_interrupt(out, publishing)
            work = asyncio.create_task(_settle(publishing, interrupted, ledger, receivers, client))
            done, _ = await asyncio.wait([failed, work], return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
            if work not in done:
                failed.result()  # raises
            summary = work.result()
    for receiver in receivers.values():
        await receiver.stop()
    if summary is None:
        out.print("Stopped before the numbers could be counted.")
        return 0
    return _conclude(out, summary)


async def _register(client: ApiClient, receiver: Receiver, url: str, events: tuple[EventType, ...]) -> int:
    wanted = {"endpoint": {"target_url": f"{url}webhooks", "events": list(events), "description": f"demo: {receiver.name}"}}
    created = await asyncio.to_thread(client.call, "POST", "endpoints", json=wanted)
    receiver.secret = created["secret"]
    endpoint_id: int = created["id"]
    return endpoint_id


async def _settle(
    publishing: asyncio.Task[int],
    interrupted: asyncio.Event,
    ledger: DemoLedger,
    receivers: dict[str, Receiver],
    client: ApiClient,
) -> DemoSummary | None:
    """Wait until the events are published and the numbers add up. After Ctrl-C, wait only briefly; None if that was too short."""
    with suppress(asyncio.CancelledError):
        await publishing
    counting = asyncio.create_task(_count_until_settled(interrupted, ledger, receivers, client))
    stopping = asyncio.create_task(interrupted.wait())
    await asyncio.wait([counting, stopping], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([counting], timeout=_COUNTING_SECONDS_AFTER_CTRL_C)
    stopping.cancel()
    if counting.done():
        return counting.result()
    counting.cancel()
    return None


async def _count_until_settled(
    interrupted: asyncio.Event, ledger: DemoLedger, receivers: dict[str, Receiver], client: ApiClient
) -> DemoSummary:
    started = time.monotonic()
    while True:
        summary = await asyncio.to_thread(_summarise, ledger, receivers, client)
        others = receivers[_EVERYTHING].counts.distinct > summary.events  # somebody else has published, too
        # Asked each time, and after the numbers: somebody may do it while they settle.
        by_hand = others or await asyncio.to_thread(_has_been_touched, client, ledger.endpoints)
        summary = replace(summary, by_hand=by_hand, interrupted=interrupted.is_set())
        patience = _SETTLE_SECONDS_AFTER_CTRL_C if interrupted.is_set() else _SETTLE_SECONDS
        if summary.is_settled or summary.by_hand or time.monotonic() - started > patience:
            return summary
        await asyncio.sleep(_POLL_SECONDS)


def _on_interrupt_of_start(out: Console) -> None:
    """Ctrl-C ends the start. That may take a moment, because an import under way is completed."""
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None  # noqa: S101 - a coroutine calls this

    def interrupt() -> None:
        out.print("\nStopping...")
        main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)


def _on_interrupt(out: Console, publishing: asyncio.Task[int]) -> asyncio.Event:
    """The first Ctrl-C stops publishing and sets the returned event. Each further one cancels whatever is being waited for."""
    interrupted = asyncio.Event()
    loop, main = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        if interrupted.is_set():
            if main is not None:
                main.cancel()
            return
        interrupted.set()
        publishing.cancel()
        out.print("\nStopping when the deliveries in progress are finished. Press Ctrl-C again to stop immediately.")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return interrupted


def _summarise(ledger: DemoLedger, receivers: dict[str, Receiver], client: ApiClient) -> DemoSummary:
    own = [("q[endpoint_id_in][]", str(one)) for one in ledger.endpoints]
    counted = _search(client, "attempts/facets", own)
    states: dict[str, int] = counted.get("states", {})
    exhausted = _search(client, "attempts", [*own, ("q[outcome_eq]", "exhausted"), ("per_page", "1")])["total_count"]
    failed = states.get("failed", 0)
    needle, found, found_wanted = "", 0, 0
    if ledger.latest is not None:
        payload = json.loads(ledger.latest.value)["data"]
        # Part of the body of the last completed order, in lower case.
        needle = payload["number"].lower()
        query = [("q[request_body_cont]", needle), ("q[event_name_eq]", "order_completed"), ("q[outcome_eq]", "delivered")]
        found, found_wanted = _search(client, "attempts", [*own, *query])["total_count"], 1
    counts = [receiver.counts for receiver in receivers.values()]
    return DemoSummary(
        events=sum(ledger.events.values()),
        wanted=sum(ledger.events[event.value] for events in _SUBSCRIPTIONS.values() for event in events),
        outcomes=Counter(delivered=states.get("succeeded", 0), repeated=failed - exhausted, exhausted=exhausted),
        received=sum(each.received for each in counts),
        acknowledged=sum(each.acknowledged for each in counts),
        needle=needle,
        found=found,
        found_wanted=found_wanted,
    )


def _has_been_touched(client: ApiClient, endpoints: Sequence[int]) -> bool:
    """Whether somebody has resent or tested something, or has changed or deleted an endpoint."""
    by_hand = [("q[trigger_in][]", "resend"), ("q[trigger_in][]", "test"), ("per_page", "1")]
    if _search(client, "attempts", by_hand)["total_count"]:
        return True
    try:
        return any(client.call("GET", f"endpoints/{one}")["version"] > 1 for one in endpoints)
    except ApiCallError as error:
        return error.status == 404  # deleted


def _search(client: ApiClient, path: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    with suppress(ApiCallError):
        found: dict[str, Any] = client.call("GET", path, params=[*query, ("strict", "1")])
        return found
    return {"total_count": 0}


def _print_delivery(out: Console, name: str, got: Received) -> None:
    event_name, about = _named(got.body)
    style = "green" if got.outcome == "acknowledged" else "red"
    retry = f" (try {got.attempt})" if got.attempt > 1 else ""
    line = visible(f"{datetime.now(UTC).astimezone():%H:%M:%S}  {event_name:32} {about:15} -> {name:6} ")
    out.print(Text.assemble(line, (f"{got.status or 'no response'}{retry}", style)), soft_wrap=True)


def _named(body: bytes) -> tuple[str, str]:
    """The name of an event, and what it is about. The body may be anything: people verify endpoints, and subscribe to other events."""
    try:
        event = json.loads(body)
        name, data = str(event["event_name"]), event["data"]
        return name, str(data.get("number") or (f"stock item {data['id']}" if name in _STOCK_EVENTS else ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "(not an event)", ""


def _conclude(out: Console, summary: DemoSummary) -> int:
    table = Table("", "figure", title="Summary", show_header=False)
    for name, figure in {
        "events published": summary.events,
        "notifications due": summary.wanted,
        "attempts": sum(summary.outcomes.values()),
        "delivered": summary.outcomes["delivered"],
        "failed, and retried": summary.outcomes["repeated"],
        "given up after six attempts": summary.outcomes["exhausted"],
        f"found by body search for {summary.needle!r}": summary.found,
    }.items():
        table.add_row(name, str(figure))
    out.print(table)
    problems = summary.problems()
    for problem in problems:
        out.print(f"[bold red]Does not add up:[/bold red] {problem}")
    if summary.by_hand:
        out.print("The numbers are not compared, because you have published, resent, tested or changed something.")
    elif not problems and summary.unfinished:
        waiting = counted(summary.unfinished, "notification was", "notifications were")
        out.print(f"Stopped while {waiting} still waiting for a retry. All other numbers add up.")
    elif not problems:
        out.print(
            "[green]The numbers add up: every notification was delivered or given up after six attempts, and every attempt is recorded.[/green]"
        )
    out.print(_NEXT, highlight=False)
    return 1 if problems else 0
