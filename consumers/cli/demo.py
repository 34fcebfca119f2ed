"""``make demo``: the whole pipeline, a simulated OMS and two receivers in one process. At the end, the numbers must add up."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.cli import tables
from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.embedded import EmbeddedServices, KafkaKind, embedded_services
from consumers.cli.runtime_files import leave_note, note_of
from consumers.cli.traffic import simulate
from consumers.run import ALL_ROLES, running
from pipeline.devtools.receiver import Behaviour, Received, Receiver
from pipeline.devtools.simulator import SimulatedEvent
from pipeline.ops.logs import configure_logs
from pipeline.ops.settings import Settings
from schemas.event import EventType
from schemas.topics import parse_delay

# Short enough to watch: a notification that fails six times ends after ten seconds.
DEMO_DELAYS = "1s,1s,2s,3s,3s"
_SHARE_OF_TIME_FOR_EVENTS = 0.6
_SETTLE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.5
_PICTURE = """
  shop ──► Kafka ──► fan-out ──► erp      gets every event and accepts it
                        │  └───► mailer   gets shipments and fails a third
                        │           ▲
                        ├─► retry ──┘     after 1 to 3 s, up to five times
                        └─► recorder ──► ClickHouse ◄── dashboard, API
"""
_NEXT = """What to try next:
  make demo              leave it running; open the dashboard, look up an order
  oms-webhooks all       your own endpoints: see "Five minutes" in README.md
  oms-webhooks --help    all commands"""
_SHIPMENT_EVENTS = (EventType.SHIPMENT_SHIPPED, EventType.SHIPMENT_UPDATED, EventType.SHIPMENT_DELIVERY_STATUS_UPDATED)
_SUBSCRIPTIONS: Final[dict[str, tuple[EventType, ...]]] = {"erp": tuple(EventType), "mailer": _SHIPMENT_EVENTS}


@dataclass(slots=True)
class DemoLedger:
    """What was published, kept outside the pipeline."""

    events: Counter[str] = field(default_factory=Counter)
    latest: SimulatedEvent | None = None

    def note(self, event: SimulatedEvent) -> None:
        """Count an event."""
        self.events[event.event_name.value] += 1
        if event.event_name is EventType.ORDER_COMPLETED:
            self.latest = event


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The numbers at the end. ``wanted`` is how many notifications the subscriptions call for."""

    events: int
    wanted: int
    outcomes: Counter[str]
    received: int
    acknowledged: int
    needle: str
    found: int
    found_wanted: int

    def problems(self) -> list[str]:
        """The numbers that do not add up."""
        attempts = sum(self.outcomes.values())
        checks = {
            f"{self.wanted} notifications were due, {self.outcomes['delivered']} delivered + {self.outcomes['exhausted']} given up": (
                self.outcomes["delivered"] + self.outcomes["exhausted"] == self.wanted
            ),
            f"{attempts} attempts are recorded, but the receivers got {self.received}": attempts == self.received,
            f"{self.outcomes['delivered']} are recorded as delivered, but the receivers acknowledged {self.acknowledged}": (
                self.outcomes["delivered"] == self.acknowledged
            ),
            f"a body search for {self.needle} found {self.found} notifications of {self.found_wanted}": (
                self.found == self.found_wanted
            ),
            "no event was published": self.events > 0,
        }
        return [text for text, holds in checks.items() if not holds]


def run_demo(out: Console, *, kafka: KafkaKind, seconds: float | None, rate: float) -> int:
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
    )
    base = base.model_copy(update={"http_port": _free(base.http_port)})
    out.print("Starting the broker ...")
    with embedded_services(base, kafka) as here:
        settings = here.settings
        if here.broker is not None and here.broker.durable:
            # The numbers of this run must not mix with those of an earlier run on the same disk.
            settings = settings.model_copy(update=_fresh_names())
        return uvloop.run(_demo(out, EmbeddedServices(settings, here.broker), seconds, rate))


def _fresh_names() -> dict[str, object]:
    run = secrets.token_hex(3)
    return {"kafka_topic_prefix": f"demo-{run}.", "clickhouse_database": f"demo_{run}"}


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return port if probe.connect_ex(("127.0.0.1", port)) else 0


async def _demo(out: Console, here: EmbeddedServices, seconds: float | None, rate: float) -> int:
    settings = here.settings
    key = settings.api_keys[0].get_secret_value()
    receivers = {
        "erp": Receiver("erp", on_delivery=lambda got: _tell(out, "erp", got)),
        "mailer": Receiver("mailer", behaviour=Behaviour(fail_rate=0.35), on_delivery=lambda got: _tell(out, "mailer", got)),
    }
    out.print(_PICTURE, highlight=False)
    out.print("Starting ClickHouse and the pipeline ...")
    async with running(settings, ALL_ROLES, ends_when_refused=True) as pipeline:
        with (
            leave_note(note_of(settings, pipeline.url)),
            ApiClient(pipeline.url, key) as client,
        ):
            out.print(tables.banner(here, pipeline.url, key))
            for name, receiver in receivers.items():
                await _register(client, receiver, await receiver.start(), _SUBSCRIPTIONS[name])
            out.print("Each line is an attempt: time, event, what it is about, endpoint and answer.\n")
            ledger = DemoLedger()
            failed = asyncio.create_task(pipeline.until_failed())
            work = asyncio.create_task(_publish_and_settle(settings, ledger, receivers, client, seconds, rate))
            done, _ = await asyncio.wait([failed, work], return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
            summary = work.result() if work in done else failed.result()
    for receiver in receivers.values():
        await receiver.stop()
    assert isinstance(summary, DemoSummary)  # noqa: S101 - the other task only ever raises
    return _conclude(out, summary)


async def _register(client: ApiClient, receiver: Receiver, url: str, events: tuple[EventType, ...]) -> None:
    wanted = {"endpoint": {"target_url": f"{url}webhooks", "events": list(events), "description": f"demo: {receiver.name}"}}
    created = await asyncio.to_thread(client.call, "POST", "endpoints", json=wanted)
    receiver.secret = created["secret"]


async def _publish_and_settle(
    settings: Settings,
    ledger: DemoLedger,
    receivers: dict[str, Receiver],
    client: ApiClient,
    seconds: float | None,
    rate: float,
) -> DemoSummary:
    publishing = asyncio.create_task(
        simulate(
            settings,
            rate=rate,
            seed=secrets.randbelow(10**6),
            seconds=seconds * _SHARE_OF_TIME_FOR_EVENTS if seconds else None,
            on_event=ledger.note,
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, publishing.cancel)
    with suppress(asyncio.CancelledError):
        await publishing
    wanted = sum(ledger.events[event.value] for events in _SUBSCRIPTIONS.values() for event in events)
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        summary = await _summarise(ledger, wanted, receivers, client)
        if not summary.problems() or time.monotonic() > deadline:
            return summary
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _summarise(ledger: DemoLedger, wanted: int, receivers: dict[str, Receiver], client: ApiClient) -> DemoSummary:
    outcomes: Counter[str] = Counter()
    for outcome in ("delivered", "repeated", "exhausted", "discarded"):
        page = await asyncio.to_thread(_search, client, [("q[outcome_eq]", outcome), ("per_page", "1")])
        outcomes[outcome] = page["total_count"]
    needle, found, found_wanted = "", 0, 0
    if ledger.latest is not None:
        payload = json.loads(ledger.latest.value)["data"]
        # Part of the body of the last completed order, in another case.
        needle = payload["number"].lower()
        query = [("q[request_body_cont]", needle), ("q[event_name_eq]", "order_completed"), ("q[outcome_eq]", "delivered")]
        found, found_wanted = (await asyncio.to_thread(_search, client, query))["total_count"], 1
    counts = [receiver.counts for receiver in receivers.values()]
    return DemoSummary(
        events=sum(ledger.events.values()),
        wanted=wanted,
        outcomes=outcomes,
        received=sum(each.received for each in counts),
        acknowledged=sum(each.acknowledged for each in counts),
        needle=needle,
        found=found,
        found_wanted=found_wanted,
    )


def _search(client: ApiClient, query: list[tuple[str, str]]) -> dict[str, Any]:
    with suppress(ApiCallError):
        page: dict[str, Any] = client.call("GET", "attempts", params=[*query, ("strict", "1")])
        return page
    return {"total_count": 0}


def _tell(out: Console, name: str, got: Received) -> None:
    event = json.loads(got.body)
    data = event["data"]
    about = data.get("number") or f"stock item {data['id']}"
    style = "green" if got.outcome == "acknowledged" else "red"
    retry = f" (try {got.attempt})" if got.attempt > 1 else ""
    line = f"{datetime.now(UTC).astimezone():%H:%M:%S}  {event['event_name']:32} {about:15} -> {name:6} "
    out.print(Text.assemble(line, (f"{got.status or 'no answer'}{retry}", style)), soft_wrap=True)


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
    if not problems:
        out.print(
            "[green]The numbers add up: every notification was delivered or given up after six attempts, and every attempt is recorded.[/green]"
        )
    out.print(_NEXT, highlight=False)
    return 1 if problems else 0
