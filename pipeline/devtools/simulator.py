"""A simulated OMS: orders that are placed, cancelled, shipped and delivered, and the stock that they use up.

Everything depends on one seed: the same seed and the same times give the same bytes. Time is compressed: an order's events follow
each other without the delays of real life, so a demonstration shows the whole life of an order in seconds.
"""

from __future__ import annotations

import itertools
import random
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import msgspec

from pipeline.devtools import checkout, population
from pipeline.devtools.catalog import (
    CARD_TYPES,
    DELIVERY_DETAILS,
    LOCATIONS,
    ORDER_PREFIXES,
    PROMOTIONS,
    SPECIAL_INSTRUCTIONS,
    USD,
)
from pipeline.devtools.checkout import Purchase
from pipeline.devtools.population import Json, Stock, Subscription
from schemas.codec import format_time
from schemas.event import EventType

TopicKind = Literal["orders", "shipments", "stock_items"]

CANCELLED_SHARE = 0.08
SUBSCRIPTION_SHARE = 0.10
PROMOTION_SHARE = 0.15
RESUPPLY_SHARE = 0.02
CUSTOMERS = 150
STAFF_USER_ID = 12


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """A record for a source topic. ``topic_kind`` names an attribute of ``Topics``; ``value`` is the event as JSON."""

    topic_kind: TopicKind
    key: str
    value: bytes
    event_name: EventType
    id: str
    occurred_at: datetime


_Step = Callable[[datetime], SimulatedEvent]


@dataclass(slots=True)
class _LiveOrder:
    """An order with events still to come."""

    payload: Json
    picks: tuple[tuple[Stock, int], ...]
    references: dict[str, str]
    steps: deque[_Step] = field(default_factory=deque)


class Shop:
    """An OMS with ``customers``, stock and up to ``live_orders`` open orders at a time."""

    def __init__(self, seed: int, live_orders: int = 24, customers: int = CUSTOMERS) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, and nothing is kept secret with it
        self._max_live = live_orders
        self._ids = population.Ids()
        self._order_numbers = population.scattered(self._random, digits=9)
        self._shipment_numbers = population.scattered(self._random, digits=11)
        self._customers = [population.new_customer(self._random, self._ids) for _ in range(customers)]
        self._stock = list(population.new_stock(self._random, self._ids))
        self._subscriptions = list(population.new_subscriptions(self._random, self._ids, self._customers, self._stock))
        self._live: list[_LiveOrder] = []
        self._stock_moves: deque[_Step] = deque()

    def events(self, rate: float, start: datetime) -> Iterator[SimulatedEvent]:
        """An endless sequence of events, ``rate`` per second of virtual time, the first at ``start``. It never waits.

        Raises:
            ValueError: the rate is not above 0.
        """
        if rate <= 0:
            message = f"The rate is {rate}; it must be above 0 events per second."
            raise ValueError(message)
        return (self.next_event(start + timedelta(seconds=n / rate)) for n in itertools.count())

    def next_event(self, now: datetime) -> SimulatedEvent:
        """The next event, at ``now``.

        Raises:
            ValueError: ``now`` has no time zone.
        """
        if now.tzinfo is None:
            message = "The time has no time zone; use datetime.now(UTC)."
            raise ValueError(message)
        # A step's effects on the stock are published before any other event, so that every event is correct when it is published.
        if not self._stock_moves:
            self._resupply()
        if self._stock_moves:
            return self._stock_moves.popleft()(now)
        if not self._live or (len(self._live) < self._max_live and self._random.random() < 0.4):
            return self._complete(now)
        position = self._random.randrange(len(self._live))
        order = self._live[position]
        step = order.steps.popleft()
        if not order.steps:
            self._live[position] = self._live[-1]
            self._live.pop()
        return step(now)

    # Orders

    def _complete(self, now: datetime) -> SimulatedEvent:
        subscription = self._due_subscription()
        purchase = self._purchase(now, subscription)
        self._take(purchase.picks)
        references = {"subscription_id": subscription.id} if subscription else {}
        order = _LiveOrder(checkout.order(purchase, self._ids), purchase.picks, references)
        order.steps.extend(self._plan(order))
        self._live.append(order)
        return self._order_event(EventType.ORDER_COMPLETED, order, now)

    def _due_subscription(self) -> Subscription | None:
        if self._random.random() >= SUBSCRIPTION_SHARE:
            return None
        due = [subscription for subscription in self._subscriptions if subscription.stock.on_hand]
        return self._random.choice(due) if due else None

    def _purchase(self, now: datetime, subscription: Subscription | None) -> Purchase:
        rng = self._random
        picks = ((subscription.stock, 1),) if subscription else self._pick()
        locations = dict.fromkeys(stock.location.id for stock, _ in picks)
        return Purchase(
            number=rng.choice(ORDER_PREFIXES) + next(self._order_numbers),
            customer=subscription.customer if subscription else rng.choice(self._customers),
            picks=picks,
            shipment_numbers={location: f"H{next(self._shipment_numbers)}" for location in locations},
            promotion=rng.choice(PROMOTIONS) if not subscription and rng.random() < PROMOTION_SHARE else None,
            subscription_id=subscription.id if subscription else None,
            token=urlsafe_b64encode(rng.randbytes(12)).decode(),
            card=(rng.choice(CARD_TYPES), f"{rng.randrange(10_000):04}"),
            special_instructions=rng.choice(SPECIAL_INSTRUCTIONS) if rng.random() < 0.1 else None,
            started_at=now - timedelta(seconds=rng.uniform(60, 2400)),
            completed_at=now,
        )

    def _pick(self) -> tuple[tuple[Stock, int], ...]:
        rng = self._random
        available = [stock for stock in self._stock if stock.on_hand]
        first = rng.choice(available)
        # Most orders are shipped from one location; some are split into several shipments.
        split = rng.random() < 0.2
        others = [stock for stock in available if stock is not first and (split or stock.location is first.location)]
        chosen = [first, *rng.sample(others, min(len(others), rng.choice((0, 0, 0, 0, 0, 1, 1, 2))))]
        return tuple((stock, min(stock.on_hand, rng.choice((1, 1, 1, 2, 3)))) for stock in chosen)

    def _plan(self, order: _LiveOrder) -> deque[_Step]:
        """Plan the order's events. Events of its shipments are interleaved."""
        rng = self._random
        journeys = [self._journey(order, shipment) for shipment in order.payload["shipments"]]
        if rng.random() < CANCELLED_SHARE:
            # Some are cancelled when the label is already printed.
            labels = [journeys[0].popleft()] if rng.random() < 0.3 else []
            return deque([*labels, partial(self._cancel, order)])
        steps: deque[_Step] = deque()
        while journeys := [journey for journey in journeys if journey]:
            steps.append(rng.choice(journeys).popleft())
        return steps

    def _cancel(self, order: _LiveOrder, now: datetime) -> SimulatedEvent:
        payload = order.payload
        self._put_back(order.picks)
        payload.update(
            state="canceled", payment_state="void", shipment_state="canceled", payment_total="0.0", updated_at=format_time(now)
        )
        by_customer = payload["user_id"] is not None and self._random.random() < 0.5
        payload["canceler_id"] = payload["user_id"] if by_customer else STAFF_USER_ID
        for payment in payload["payments"]:
            payment.update(state="void", updated_at=format_time(now))
        for shipment in payload["shipments"]:
            shipment["state"] = "canceled"
            _move_manifest(shipment, "canceled")
        for item, (stock, _) in zip(payload["line_items"], order.picks, strict=True):
            item["variant"].update(in_stock=stock.on_hand > 0, total_on_hand=stock.on_hand)
        return self._order_event(EventType.ORDER_CANCELLED, order, now)

    # Shipments

    def _journey(self, order: _LiveOrder, shipment: Json) -> deque[_Step]:
        statuses = ["pre_transit", *["in_transit"] * self._random.randint(1, 3), "out_for_delivery"]
        fate = self._random.random()
        if fate < 0.03:
            statuses += ["failure", "return_to_sender"]
        elif fate < 0.10:
            statuses += ["failure", "out_for_delivery", "delivered"]
        elif fate < 0.16:
            statuses += ["available_for_pickup", "delivered"]
        else:
            statuses += ["delivered"]
        return deque(
            [
                partial(self._assign_tracking, order, shipment),
                partial(self._ship, order, shipment),
                *(partial(self._update_delivery, order, shipment, status) for status in statuses),
            ]
        )

    def _assign_tracking(self, order: _LiveOrder, shipment: Json, now: datetime) -> SimulatedEvent:
        location = next(place for place in LOCATIONS if place.name == shipment["stock_location_name"])
        carrier = location.carrier
        tracking = population.filled(self._random, carrier.tracking)
        url = f"https://tracking.example.com/{carrier.name.lower().replace(' ', '-')}/{tracking}"
        shipment.update(tracking=tracking, tracking_url=url, carrier=carrier.name)
        return self._shipment_event(EventType.SHIPMENT_UPDATED, order, shipment, now)

    def _ship(self, order: _LiveOrder, shipment: Json, now: datetime) -> SimulatedEvent:
        shipment.update(state="shipped", shipped_at=format_time(now))
        _move_manifest(shipment, "shipped")
        return self._shipment_event(EventType.SHIPMENT_SHIPPED, order, shipment, now)

    def _update_delivery(self, order: _LiveOrder, shipment: Json, status: str, now: datetime) -> SimulatedEvent:
        shipment.update(delivery_status=status, tracking_detail=self._random.choice(DELIVERY_DETAILS[status]))
        return self._shipment_event(EventType.SHIPMENT_DELIVERY_STATUS_UPDATED, order, shipment, now)

    # Stock

    def _take(self, picks: tuple[tuple[Stock, int], ...]) -> None:
        for stock, quantity in picks:
            stock.on_hand -= quantity
            if not stock.on_hand:
                self._stock_moves.append(partial(self._stock_event, EventType.STOCK_ITEM_OUT_OF_STOCK, stock))

    def _put_back(self, picks: tuple[tuple[Stock, int], ...]) -> None:
        for stock, quantity in picks:
            if not stock.on_hand:
                self._stock_moves.append(partial(self._stock_event, EventType.STOCK_ITEM_BACK_IN_STOCK, stock))
            stock.on_hand += quantity

    def _resupply(self) -> None:
        """Sometimes resupply a sold-out item; always if half of all items are sold out."""
        missing = [stock for stock in self._stock if not stock.on_hand]
        if missing and (len(missing) * 2 >= len(self._stock) or self._random.random() < RESUPPLY_SHARE):
            self._put_back(((self._random.choice(missing), self._random.randint(12, 60)),))

    # Records

    def _order_event(self, event_name: EventType, order: _LiveOrder, now: datetime) -> SimulatedEvent:
        key = order.payload["number"]
        return SimulatedEvent("orders", key, *self._encoded(event_name, order.payload, now, order.references))

    def _shipment_event(self, event_name: EventType, order: _LiveOrder, shipment: Json, now: datetime) -> SimulatedEvent:
        key = order.payload["number"]
        return SimulatedEvent("shipments", key, *self._encoded(event_name, shipment, now, order.references))

    def _stock_event(self, event_name: EventType, stock: Stock, now: datetime) -> SimulatedEvent:
        return SimulatedEvent("stock_items", str(stock.id), *self._encoded(event_name, checkout.stock_item(stock, USD), now))

    def _encoded(
        self, event_name: EventType, data: Json, now: datetime, references: Json | None = None
    ) -> tuple[bytes, EventType, str, datetime]:
        event_id = f"evt_{self._random.getrandbits(128):032x}"
        event = {"id": event_id, "event_name": event_name, "occurred_at": format_time(now), "data": data}
        if references:
            event["references"] = references
        return msgspec.json.encode(event), event_name, event_id, now


def _move_manifest(shipment: Json, state: str) -> None:
    for line in shipment["manifest"]:
        line["states"] = {state: line["quantity"]}
