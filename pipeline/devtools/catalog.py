"""What the simulated shops sell, to whom, where, and with which carriers. All of it is fictitious."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

# Most tenants number their orders with R and 9 digits; some have their own prefix. Repetition makes a prefix more likely.
ORDER_PREFIXES = ("R", "R", "R", "R", "R", "R", "MAPLE-", "NORD-", "JP-W-")

DELIVERY_DETAILS = {
    "pre_transit": ("Shipping Label Created, Awaiting Item", "Shipment Information Received"),
    "in_transit": ("Arrived at Sorting Facility", "Departed Regional Hub", "Customs Cleared", "In Transit to Next Facility"),
    "out_for_delivery": ("Out For Delivery Today",),
    "available_for_pickup": ("Ready at the Parcel Locker",),
    "delivered": ("Delivered, Front Door", "Delivered, Left With Neighbour", "Delivered, Signed By Recipient"),
    "failure": ("Delivery Attempted, No Access", "Recipient Not Available"),
    "return_to_sender": ("Refused By Recipient, Returning to Sender",),
}

PROMOTIONS = (("WELCOME10", Decimal(-5)), ("SPRING", Decimal("-7.50")), ("FRIENDS", Decimal("-2.25")))

CARD_TYPES = ("visa", "master", "american_express")

SPECIAL_INSTRUCTIONS = ("Please ring twice.", "Beim Nachbarn (Müller) abgeben", "宅配ボックスに入れてください", "Não dobrar 🌱")


@dataclass(frozen=True, slots=True)
class Currency:
    """A currency: ``exponent`` decimals; ``pattern`` shows an amount to people; ``per_dollar`` sets this shop's prices."""

    code: str
    pattern: str
    exponent: int
    per_dollar: Decimal

    def round(self, amount: Decimal) -> Decimal:
        """Round half up to a payable amount."""
        return amount.quantize(Decimal(1).scaleb(-self.exponent), ROUND_HALF_UP)

    def price(self, dollars: Decimal) -> Decimal:
        """A dollar price in this currency."""
        return self.round(dollars * self.per_dollar)

    def display(self, amount: Decimal) -> str:
        """An amount as people read it: ``$1,204.50``, ``-$5.00``, ``48.00 zł``."""
        sign = "-" if amount < 0 else ""
        return sign + self.pattern.format(f"{abs(amount):,.{self.exponent}f}")


USD = Currency("USD", "${}", 2, Decimal(1))
EUR = Currency("EUR", "€{}", 2, Decimal("0.95"))
GBP = Currency("GBP", "£{}", 2, Decimal("0.85"))
PLN = Currency("PLN", "{} zł", 2, Decimal("4.1"))
BRL = Currency("BRL", "R${}", 2, Decimal("5.5"))
JPY = Currency("JPY", "¥{}", 0, Decimal(150))


@dataclass(frozen=True, slots=True)
class Country:
    """A country as it appears in addresses."""

    id: int
    iso: str
    iso3: str
    name: str
    numcode: int


@dataclass(frozen=True, slots=True)
class City:
    """A city with its state; ``tax`` is the local rate in percent."""

    name: str
    zipcode: str
    state_id: int
    state: str
    abbr: str
    tax: Decimal


@dataclass(frozen=True, slots=True)
class Market:
    """People, places and habits of a country. ``people`` are names with their spelling in e-mail addresses."""

    country: Country
    currency: Currency
    locale: str
    tax_label: str
    tax_included: bool
    phone: str
    streets: tuple[str, ...]
    cities: tuple[City, ...]
    people: tuple[tuple[str, str], ...]


def _people(*names: str) -> tuple[tuple[str, str], ...]:
    """Read ``Ada Marsh`` or ``Günther Weiß|guenther.weiss``."""
    pairs = (name.partition("|") for name in names)
    return tuple((shown, local or shown.lower().replace(" ", ".").replace("'", "")) for shown, _, local in pairs)


MARKETS = (
    Market(
        Country(233, "US", "USA", "United States", 840), USD, "en", "Sales Tax", tax_included=False, phone="21255501##",
        streets=("{} Irving Pl", "{} Valencia St", "{} Wabash Ave", "{} Congress Ave", "{} E Burnside St, Apt 4B"),
        cities=(
            City("New York", "10003", 3561, "New York", "NY", Decimal("8.875")),
            City("San Francisco", "94110", 3514, "California", "CA", Decimal("8.625")),
            City("Chicago", "60605", 3523, "Illinois", "IL", Decimal("10.25")),
            City("Austin", "78701", 3573, "Texas", "TX", Decimal("8.25")),
            City("Portland", "97214", 3567, "Oregon", "OR", Decimal(0)),
        ),
        people=_people(
            "Ada Marsh", "Calvin O'Brien", "Denise Whitfield", "Marcus Tran", "Priya Raman", "José Álvarez|jose.alvarez",
            "Zoë Kessler|zoe.kessler", "Tom Halloran", "Renée Dubois|renee.dubois", "Malik Johnson",
        ),
    ),
    Market(
        Country(58, "DE", "DEU", "Germany", 276), EUR, "de", "MwSt.", tax_included=True, phone="+49 30 555####",
        streets=("Bahnhofstraße {}", "Müllerstraße {}", "Am Grünen Weg {}"),
        cities=(
            City("München", "80331", 412, "Bayern", "BY", Decimal(19)),
            City("Köln", "50667", 418, "Nordrhein-Westfalen", "NW", Decimal(19)),
            City("Berlin", "10115", 409, "Berlin", "BE", Decimal(19)),
        ),
        people=_people("Günther Weiß|guenther.weiss", "Jürgen Schäfer|juergen.schaefer", "Anke Vogel", "Björn Kästner|bjoern.k"),
    ),
    Market(
        Country(78, "GB", "GBR", "United Kingdom", 826), GBP, "en-GB", "VAT", tax_included=True, phone="020 7946 0###",
        streets=("{} Marchmont Street", "Flat 3, {} Leith Walk"),
        cities=(
            City("London", "WC1N 1AB", 731, "London", "LND", Decimal(20)),
            City("Edinburgh", "EH6 5DX", 738, "Edinburgh", "EDH", Decimal(20)),
        ),
        people=_people("Imogen Clarke", "Rhys Llewellyn", "Siân Pryce|sian.pryce"),
    ),
    Market(
        Country(179, "PL", "POL", "Poland", 616), PLN, "pl", "VAT", tax_included=True, phone="+48 42 555 ## ##",
        streets=("ul. Piotrkowska {}", "ul. Świętojańska {}", "al. Kościuszki {}"),
        cities=(
            City("Łódź", "90-001", 2655, "łódzkie", "LD", Decimal(23)),
            City("Gdańsk", "80-831", 2660, "pomorskie", "PM", Decimal(23)),
        ),
        people=_people("Agnieszka Wójcik|agnieszka.wojcik", "Paweł Źrebiec|pawel.zrebiec", "Małgorzata Łoś|m.los"),
    ),
    Market(
        Country(32, "BR", "BRA", "Brazil", 76), BRL, "pt-BR", "ICMS", tax_included=False, phone="+55 11 5555-####",
        streets=("Rua Augusta, {}", "Av. Brigadeiro Faria Lima, {}"),
        cities=(
            City("São Paulo", "01305-000", 512, "São Paulo", "SP", Decimal(18)),
            City("Florianópolis", "88010-400", 509, "Santa Catarina", "SC", Decimal(17)),
        ),
        people=_people("João Conceição|joao.conceicao", "Inês Magalhães|ines.magalhaes", "Tainá Prado|taina.prado"),
    ),
    Market(
        Country(111, "JP", "JPN", "Japan", 392), JPY, "ja", "消費税", tax_included=True, phone="03-5555-####",
        streets=("神南{}丁目2-1", "丸の内{}-4-1"),
        cities=(
            City("東京", "150-0041", 1842, "東京都", "13", Decimal(10)),
            City("大阪", "530-0001", 1856, "大阪府", "27", Decimal(10)),
        ),
        people=_people("佐藤 花子|hanako.sato", "高橋 健太|kenta.takahashi", "鈴木 さくら|sakura.suzuki"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """A product with its options; every option is a variant. Price in dollars, weight in kilograms."""

    code: str
    name: str
    price: Decimal
    weight: str
    description: str
    option_type: str
    options: tuple[tuple[str, str], ...]


_SIZES = (("SM", "Small"), ("MD", "Medium"), ("LG", "Large"))

PRODUCTS = (
    Product("SPRUCE-01", "Colorado Blue Spruce", Decimal(24), "2.5", "Potted sapling, 30 cm, three years old.", "size", _SIZES),
    Product("FERN-04", "Boston Fern", Decimal("17.50"), "1.2", "Likes shade and a damp soil; safe for cats.", "size", _SIZES),
    Product("MONST-02", "Monstera Deliciosa", Decimal("42.90"), "3.8", "Split leaves, in a nursery pot.", "size", _SIZES),
    Product("POT-11", "Terracotta Pot", Decimal("12.25"), "1.9", "Hand thrown, with a saucer.", "colour",
            (("RD", "Red"), ("WH", "White"))),
    Product("POT-12", "Glazed Planter Ōtani", Decimal("58.00"), "4.4", "Stoneware with an ash glaze.", "colour",
            (("BL", "Blue"), ("GR", "Green"))),
    Product("SOIL-20", "Peat-free Potting Soil", Decimal("9.99"), "8.0", "With coir & perlite; enough for six pots.", "volume",
            (("10L", "10 l"), ("25L", "25 l"))),
    Product("CAN-07", "Watering Can", Decimal("31.40"), "0.9", "Galvanised steel, brass rose.", "volume",
            (("1L", "1 l"), ("5L", "5 l"))),
    Product("BOX-30", "Plant of the Month Box", Decimal("29.00"), "2.0", "A plant, a pot and a card, every month.", "light",
            (("SUN", "Sunny"), ("SHD", "Shady"))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rate:
    """A shipping method with its price in dollars."""

    id: int
    code: str
    name: str
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier; in ``tracking`` a ``#`` stands for a digit and ``?`` for a digit or a capital letter."""

    name: str
    tracking: str
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """A stock location, and the carrier that collects there."""

    id: int
    name: str
    service: str
    carrier: Carrier


LOCATIONS = (
    Location(2, "NJ Warehouse", "easypost", Carrier("UPS", "1Z????????????????", (
        Rate(3, "ups_ground", "UPS Ground", Decimal("7.99")),
        Rate(4, "ups_second_day", "UPS Second Day Air", Decimal("18.50")),
    ))),
    Location(5, "Reno 3PL", "shiphero", Carrier("USPS", "94001118992234########", (
        Rate(6, "usps_ground_advantage", "USPS Ground Advantage", Decimal("5.35")),
        Rate(7, "usps_priority", "USPS Priority Mail", Decimal("11.20")),
    ))),
    Location(9, "Lager Łódź", "easypost", Carrier("DHL Express", "JD01460000########", (
        Rate(12, "dhl_parcel", "DHL Parcel Connect", Decimal("6.90")),
        Rate(13, "dhl_express", "DHL Express Worldwide", Decimal("24.75")),
    ))),
)  # fmt: skip
