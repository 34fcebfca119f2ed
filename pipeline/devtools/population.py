"""The simulated shop on its first day: its customers, their subscriptions, and its stock."""

from __future__ import annotations

import itertools
import random
import string
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.devtools.catalog import LOCATIONS, MARKETS, PRODUCTS, City, Country, Location, Market, Product

Json = dict[str, Any]

GUEST_SHARE = 0.25
SUBSCRIBER_SHARE = 0.4


class Ids:
    """Ascending ids, one sequence per kind of object."""

    def __init__(self) -> None:
        self._sequences: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1001))

    def next(self, kind: str) -> int:
        """The next id of the kind."""
        return next(self._sequences[kind])


@dataclass(slots=True)
class Stock:
    """The quantity of one variant at one location."""

    id: int
    variant_id: int
    product: Product
    option: tuple[str, str]
    option_id: int
    location: Location
    on_hand: int

    @property
    def sku(self) -> str:
        """The variant's SKU: product code and option code."""
        return f"{self.product.code}-{self.option[0]}"


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer; a guest if ``user_id`` is None."""

    name: str
    email: str
    user_id: int | None
    market: Market
    city: City
    bill_address: Json
    ship_address: Json


@dataclass(frozen=True, slots=True)
class Subscription:
    """A variant that a customer receives regularly."""

    id: str
    customer: Customer
    stock: Stock


def new_customer(rng: random.Random, ids: Ids) -> Customer:
    """A customer with a home address, and sometimes a different billing address."""
    market = MARKETS[0] if rng.random() < 0.45 else rng.choice(MARKETS[1:])
    city = rng.choice(market.cities)
    name, local = rng.choice(market.people)
    home = _address(rng, ids, market, city, name)
    return Customer(
        name=name,
        email=f"{local}{rng.randrange(10, 100)}@example.{rng.choice(('com', 'net', 'org'))}",
        user_id=None if rng.random() < GUEST_SHARE else ids.next("user"),
        market=market,
        city=city,
        bill_address=_address(rng, ids, market, rng.choice(market.cities), name) if rng.random() < 0.15 else home,
        ship_address=home,
    )


def new_stock(rng: random.Random, ids: Ids) -> Iterator[Stock]:
    """Every variant of every product; all variants of a product are at one location."""
    for product in PRODUCTS:
        location = rng.choice(LOCATIONS)
        for option_id, option in enumerate(product.options, start=1):
            yield Stock(
                id=ids.next("stock_item"),
                variant_id=ids.next("variant"),
                product=product,
                option=option,
                option_id=option_id,
                location=location,
                on_hand=rng.randint(2, 40),
            )


def new_subscriptions(
    rng: random.Random, ids: Ids, customers: Sequence[Customer], stock: Sequence[Stock]
) -> Iterator[Subscription]:
    """Subscriptions for some of the customers who have an account."""
    for customer in customers:
        if customer.user_id is not None and rng.random() < SUBSCRIBER_SHARE:
            yield Subscription(f"S{ids.next('subscription')}", customer, rng.choice(stock))


def _address(rng: random.Random, ids: Ids, market: Market, city: City, name: str) -> Json:
    return {
        "id": ids.next("address"), "name": name,
        "address1": rng.choice(market.streets).format(rng.randint(1, 199)), "address2": None,
        "city": city.name, "zipcode": city.zipcode, "phone": filled(rng, market.phone),
        "company": "Grüne Höfe & Co." if rng.random() < 0.08 else None, "alternative_phone": None,
        "country_id": market.country.id, "country_iso": market.country.iso,
        "state_id": city.state_id, "state_name": None, "state_text": city.abbr,
        "country": _country(market.country),
        "state": {"id": city.state_id, "name": city.state, "abbr": city.abbr, "country_id": market.country.id},
    }  # fmt: skip


def _country(country: Country) -> Json:
    return {
        "id": country.id, "iso_name": country.name.upper(), "iso": country.iso, "iso3": country.iso3,
        "name": country.name, "numcode": country.numcode,
    }  # fmt: skip


def scattered(rng: random.Random, digits: int) -> Iterator[str]:
    """Numbers with this many digits that look random and repeat only after all of them were used."""
    size = 10**digits
    # A step without a common factor with 10 visits every number once.
    step, start = 38_742_048_907 % size, rng.randrange(size)
    return (f"{(start + n * step) % size:0{digits}}" for n in itertools.count())


def filled(rng: random.Random, pattern: str) -> str:
    """Replace each ``#`` with a digit, and each ``?`` with a digit or a capital letter."""
    alphabets = {"#": string.digits, "?": string.digits + string.ascii_uppercase}
    return "".join(rng.choice(alphabets[char]) if char in alphabets else char for char in pattern)
