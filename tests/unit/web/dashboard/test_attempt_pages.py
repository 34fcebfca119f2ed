"""The pages of the search and of an attempt."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlencode

import pytest
from pydantic import SecretStr
from yarl import URL

from pipeline.core.search import AttemptQuery, Condition, Cursor, Predicate, Sort
from pipeline.core.signing import new_secret
from pipeline.endpoints.operational_endpoint import operational_endpoint
from pipeline.ops.settings import Settings
from pipeline.store.errors import NARROW, StoreBudgetError, StoreBusyError, StoreUnavailableError
from pipeline.store.search.aggregates import AggregateBar, Facets, Histogram
from pipeline.store.search.queries import AttemptPage
from pipeline.store.search.summary import SearchSummary
from pipeline.web.dashboard.highlight import HighlightedText
from schemas.api_key import Access
from schemas.audit import AuditAction
from tests.unit.web.api.test_resend import detail
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

SEARCH = "/webhooks/attempts"


@pytest.fixture
async def searched(service: Service) -> Service:
    """Two attempts that are counted."""
    await service.create("http://127.0.0.1/hooks")
    service.attempts.rows = (
        attempt_row(id=12, endpoint_id=1, state="succeeded", outcome="delivered", http_status_code=204, error=None),
        attempt_row(id=11, endpoint_id=1, event_id="evt_1"),
    )
    service.attempts.sent = {"evt_1": b'{"email":"Ada@Example.com <b>"}'}
    service.attempts.counted = SearchSummary(
        Facets(2, {"succeeded": 1, "failed": 1}, {"shipment_shipped": 2}, {1: 2}),
        Histogram(3600, (AggregateBar(NOW.replace(minute=0, second=0, microsecond=0), 2, 1),)),
    )
    return service


@pytest.fixture
async def viewer(service: Service, visitor: Visitor) -> Visitor:
    assert (await visitor.log_in(await service.key(Access.VIEWER))).status == 200
    return visitor


async def test_a_very_long_endpoint_number_is_shortened(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[endpoint_id_eq]={'7' * 5000}")
    assert seen.status == 200
    assert "777\N{HORIZONTAL ELLIPSIS}" in seen.text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("q[order_number_eq]=r+742-992 696", "q[order_number_eq]=R742992696"),
        ("q[shipment_number_eq]=h12345678901", "q[shipment_number_eq]=H12345678901"),
        ("q[endpoint_id_eq]=ledger", "q[endpoint_id_eq]={ledger}"),
        ("q[endpoint_id_eq]=http://127.0.0.1/hooks", "q[endpoint_id_eq]=1"),
        ("q[endpoint_id_eq]=shop", "q[endpoint_id_in][]={erp}&q[endpoint_id_in][]={ledger}"),
        ("q[endpoint_id_eq]=nobody", "q[endpoint_id_eq]=nobody"),
    ],
)
async def test_filters_accept_what_people_type(searched: Service, admin: Visitor, typed: str, meant: str) -> None:
    erp = await searched.create("http://127.0.0.2/erp", description="Shop ERP")
    ledger = await searched.create("http://127.0.0.3/ledger", description="Ledger of the shop")
    seen = await admin.go(f"{SEARCH}?{typed}")
    assert unquote(seen.path.partition("?")[2]) == meant.format(erp=erp, ledger=ledger)
    assert ("is not a whole number" in seen.text) is ("nobody" in typed)


async def test_a_recorded_number_is_searched_as_typed(searched: Service, admin: Visitor) -> None:
    """Otherwise the list is empty for an order that the API and the timeline know. The other spelling is not searched as well."""
    searched.attempts.known = {("order_number", "R-123456"), ("order_number", "R123456")}
    for typed, meant in (("R-123456", "R-123456"), ("r-123456", "R123456"), ("R-123457", "R123457")):
        seen = await admin.go(f"{SEARCH}?{urlencode({'q[order_number_eq]': typed})}")
        assert unquote(seen.path.partition("?")[2]) == f"q[order_number_eq]={meant}"
        assert searched.attempts.queries[-1].conditions[0] == Condition("order_number", Predicate.EQ, (meant,))


async def test_results_are_shown_with_facets_and_a_histogram(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[state_eq]=failed")

    for part in ("2 attempts", "Shipment shipped", "R758805215", "attempt 2", "503", "204", "12 ms", "1 failed"):
        assert part in seen.text, part
    assert 'href="/webhooks/attempts/11"' in seen.html
    assert 'href="/webhooks/orders/R758805215"' in seen.html
    [query] = searched.attempts.queries
    assert query.after == Cursor(9_000_000_000_000, 2**63 - 1), "nothing is counted separately"
    bar = seen.html.partition('aria-label="Attempts over time')[2].partition('<a href="?')[2].partition('"')[0]
    assert parse_qsl(bar.replace("&amp;", "&")) == [
        ("q[state_eq]", "failed"),
        ("q[created_at_gteq]", "2026-03-02T15:00:00.000Z"),
        ("q[created_at_lteq]", "2026-03-02T15:59:59.999Z"),
    ]
    assert "q%5Bendpoint_id_eq%5D=1" in seen.html
    head, _, rows = seen.html.partition("<tbody>")
    assert "<title>Attempts, failed · OMS webhooks</title>" in head
    assert head.count("<summary") == 8 + 1, "eight chips that open, and the folded overview"
    assert rows.partition("</tbody>")[0].count("<a ") == 4, "two links per row: the attempt and its subject"


async def test_endpoints_are_shown_by_name(service: Service, admin: Visitor) -> None:
    identifier = await service.create(
        "http://127.0.0.1/a/long/path/of/a/receiver/that/nobody/reads", description="The ERP\nAsk Ada"
    )
    other = await service.create("http://127.0.0.1/a/long/path/of/a/receiver/that/nobody/reads/either")
    service.attempts.rows = tuple(
        attempt_row(id=10 + one, endpoint_id=one, target_url=f"http://x/{one}") for one in (identifier, other, 99)
    )
    seen = await admin.go(f"{SEARCH}?q[endpoint_id_eq]={identifier}")
    assert "Endpoint: The ERP " in seen.text
    for part in ("The ERP", "127.0.0.1/a/long/path", "reads/either", "x/99 (deleted)"):
        assert part in seen.text.partition("Duration")[2], part


async def test_the_receiver_of_operational_events_is_not_shown_as_deleted(service: Service, admin: Visitor) -> None:
    secret = SecretStr(new_secret())
    settings = Settings(_env_file=None, operational_url="https://ops.example.com/", operational_secret=secret)
    service.kafka.registry.operational = operational_endpoint(settings)
    due = NOW + timedelta(minutes=5)
    of_it = {
        "endpoint_id": 0,
        "event_name": "endpoint.disabled",
        "target_url": "https://ops.example.com/",
        "next_attempt_at": due,
    }
    service.attempts.rows = (attempt_row(**of_it),)
    found = detail(endpoint_id=0)
    service.attempts.details[11] = replace(found, attempt=attempt_row(**of_it))
    for page in (SEARCH, f"{SEARCH}/11"):
        seen = await admin.go(page)
        assert ("Operational events (setting operational_url)" in seen.text, "deleted" in seen.text) == (True, False), page
    assert "Will retry in 5 min" in seen.text
    assert ("/endpoints/0" in seen.html, "/attempts/11/resend" in seen.html) == (False, False)
    async with service.client.post("/api/webhook/attempts/11/resend") as response:
        assert (response.status, "Operational events cannot be resent." in await response.text()) == (409, True)


async def test_an_overdue_retry_is_not_shown_as_still_to_come(service: Service, admin: Visitor) -> None:
    """The page of the attempt says whether the retry was made, and how it ended."""
    await service.create()
    soon, before = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
    for due, words, others in ((soon, "will retry", "failed"), (before, "failed", "will retry")):
        service.attempts.rows = (attempt_row(endpoint_id=1, next_attempt_at=due),)
        row = (await admin.go(SEARCH)).text.partition("Duration")[2]
        assert (words in row, others in row) == (True, False), row


async def test_the_form_shows_the_filters_that_it_can_and_chips_show_the_rest(searched: Service, admin: Visitor) -> None:
    query = (
        "q[order_number_eq]=R1&q[created_at_gteq]=2026-03-01&q[attempt_gt]=2&q[sku_in][]=A&q[sku_in][]=B&q[colour_eq]=red"
        "&q[g][0][m]=or&q[g][0][state_eq]=failed&q[g][0][attempt_gt]=3&per_page=5&utm_source=x"
    )
    seen = await admin.go(f"{SEARCH}?{query}")

    fields = [(name, value) for name, value in seen.form(SEARCH).fields if value]
    assert ("q[order_number_eq]", "R1") in fields
    assert ("q[created_at_gteq]", "2026-03-01") in fields
    for pair in (("q[sku_in][]", "A"), ("q[sku_in][]", "B"), ("q[g][0][attempt_gt]", "3"), ("per_page", "5")):
        assert pair in fields, pair
    assert "utm_source" not in str(fields)
    for label in ("attempt is more than 2", "sku is one of A, B", "colour_eq: red", "[g][0][m] = or; [g][0][state_eq] = failed;"):
        assert label in seen.text, label
    assert "These filters could not be used , so the results may not be what you expect" in seen.text
    assert "colour_eq: attempts have no attribute colour" in seen.text
    [without] = [one for one in seen.html.split('<span class="chip">') if one.startswith("<span>sku is one of")]
    href = without.partition('<a href="?')[2].partition('"')[0].replace("&amp;", "&")
    assert "sku" not in unquote(href)
    assert "q[order_number_eq]=R1" in unquote(href)


async def test_typed_times_become_utc_in_the_link(searched: Service, admin: Visitor) -> None:
    admin.browser.cookie_jar.update_cookies({"oms_webhooks_time_zone": "Europe/Berlin"}, URL(f"{searched.url}/webhooks/"))
    seen = await admin.go(f"{SEARCH}?q[created_at_gteq]=2026-03-02 14:00&q[created_at_lteq]=2026-03-02T15:59:59.999")
    assert dict(parse_qsl(seen.path.partition("?")[2])) == {
        "q[created_at_gteq]": "2026-03-02T13:00:00.000Z",
        "q[created_at_lteq]": "2026-03-02T14:59:59.999Z",
    }
    # The form shows the times of the link, to the millisecond.
    assert dict(seen.form(SEARCH).fields)["q[created_at_gteq]"] == "2026-03-02T14:00"
    assert dict(seen.form(SEARCH).fields)["q[created_at_lteq]"] == "2026-03-02T15:59:59.999"


async def test_empty_fields_are_left_out_of_the_link(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[order_number_eq]=&q[state_eq]=failed&q[s]=", follow=False)
    assert (seen.status, unquote(seen.headers["Location"])) == (303, f"{SEARCH}?q[state_eq]=failed")


async def test_matches_in_bodies_are_highlighted_and_audited(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[request_body_cont]=ada@example")

    assert "<mark>Ada@Example</mark>.com &lt;b&gt;" in seen.html
    assert 'href="/webhooks/attempts/11?find=ada%40example"' in seen.html
    assert [(entry.action, entry.subject, entry.detail) for entry in searched.kafka.audits] == [
        (AuditAction.SEARCH_BODIES, "attempts", "request_body"),
        (AuditAction.VIEW_BODY, "attempts", "excerpts of 2"),
    ]


async def test_excerpts_are_made_outside_the_event_loop(
    searched: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of bodies takes long, and other requests would have to wait."""
    threads: list[threading.Thread] = []

    def made(text: str, wanted: Sequence[str]) -> tuple[HighlightedText, ...]:
        threads.append(threading.current_thread())
        return ()

    monkeypatch.setattr("pipeline.web.dashboard.attempt_list.excerpt", made)
    await admin.go(f"{SEARCH}?q[request_body_cont]=ada@example")
    assert threads
    assert threading.main_thread() not in threads


async def test_an_order_and_its_figures_need_one_query_unless_there_are_too_many_attempts(
    searched: Service, admin: Visitor
) -> None:
    rows = tuple(attempt_row(id=100 - number, endpoint_id=1, event_id="evt_1") for number in range(30))
    searched.attempts.pages = [rows]
    seen = await admin.go(f"{SEARCH}?q[order_number_eq]=R1")
    assert [asked.per_page for asked in searched.attempts.queries] == [100]
    assert ("30 attempts" in seen.text, "Counted:" in seen.text) == (True, False)
    assert 'href="/webhooks/attempts/76"' in seen.html
    assert ("/webhooks/attempts/75" in seen.html, 'rel="next"' in seen.html) == (False, True)
    searched.attempts.pages = [rows, rows]
    searched.attempts.counted = StoreUnavailableError("The figures are asked for.")
    assert "The figures are asked for." in (await admin.go(f"{SEARCH}?q[order_number_eq]=R1")).text, "there are more"


async def test_a_body_search_and_its_figures_need_one_query(searched: Service, admin: Visitor) -> None:
    rows = tuple(attempt_row(id=100 - number, endpoint_id=1, event_id="evt_1") for number in range(25))
    searched.attempts.pages = [rows, rows]
    seen = await admin.go(f"{SEARCH}?q[request_body_cont]=ada")

    [asked] = searched.attempts.queries
    assert asked.per_page == 25
    assert "25 or more attempts" in seen.text
    assert "Only the newest 25 attempts are counted, since " in seen.text
    assert 'href="/webhooks/attempts/76?' in seen.html
    assert "/webhooks/attempts/75?" not in seen.html
    older = seen.html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    last = rows[24]
    cursor = Cursor(round(last.created_at.timestamp() * 1000), last.id).encode()
    assert dict(parse_qsl(older[1:])) == {"q[request_body_cont]": "ada", "after": cursor}


async def test_a_sorted_search_says_what_was_sorted(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[request_body_cont]=ada&q[s]=duration_ms desc")
    assert "results are sorted" not in seen.text
    searched.attempts.since = NOW
    seen = await admin.go(f"{SEARCH}?q[request_body_cont]=ada&q[s]=duration_ms desc")
    assert "Only the newest 2 results are sorted, since " in seen.text
    assert 'rel="next"' not in seen.html, "no page follows what was sorted"


async def test_viewers_may_search_but_not_in_bodies(searched: Service, viewer: Visitor) -> None:
    seen = await viewer.go(SEARCH)
    assert "Body contains" not in seen.text
    assert "Resends" not in seen.text
    seen = await viewer.go(f"{SEARCH}?q[request_body_cont]=ada")
    assert (seen.status, "Searching in bodies needs a key with the operator role." in seen.text) == (403, True)
    assert len(searched.attempts.queries) == 1, "only the previous one"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            StoreBudgetError(f"The search needs more time or memory than it may take. {NARROW}"),
            422,
            "Narrow it with a time range",
        ),
        (StoreBusyError(3, 10.0), 503, "Too many searches at once: 3 other searches are ahead of this one"),
        (StoreUnavailableError("gone"), 503, "Attempts cannot be searched right now: gone"),
    ],
)
async def test_a_failed_search_is_explained_beside_its_form(
    searched: Service, admin: Visitor, error: Exception, status: int, words: str
) -> None:
    searched.attempts.error = error
    seen = await admin.go(f"{SEARCH}?q[request_body_cont]=ab")
    assert (seen.status, words in seen.text) == (status, True)
    assert ("q[request_body_cont]", "ab") in seen.form(SEARCH).fields
    searched.attempts.error = None
    seen = await admin.go(f"{SEARCH}?after=nonsense")
    assert (seen.status, "after is not a cursor of this search" in seen.text) == (422, True)


async def test_slow_figures_do_not_hold_up_the_page(searched: Service, admin: Visitor) -> None:
    searched.attempts.counted = StoreBudgetError("The search needs more time.")
    seen = await admin.go(SEARCH)
    assert seen.status == 200
    assert "Not counted: The search needs more time." in seen.text
    assert "R758805215" in seen.text


async def test_older_and_newer_pages(searched: Service, admin: Visitor) -> None:
    rows = searched.attempts.rows
    searched.attempts.pages = [rows, ()]
    seen = await admin.go(f"{SEARCH}?q[state_eq]=failed")
    assert "Back" not in seen.text
    older = seen.html.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert dict(parse_qsl(older[1:])) == {"q[state_eq]": "failed", "after": Cursor(1_700_000_000_000, 11).encode()}

    searched.attempts.pages = [rows, ()]
    seen = await admin.go(f"{SEARCH}{older}")
    newer = seen.html.partition('rel="prev" href="')[2].partition('"')[0].replace("&amp;", "&")
    first = Cursor(round(rows[0].created_at.timestamp() * 1000), 12)
    assert dict(parse_qsl(newer[1:])) == {"q[state_eq]": "failed", "before": first.encode()}

    searched.attempts.pages = [rows[::-1], ()]
    seen = await admin.go(f"{SEARCH}{newer}")
    query = searched.attempts.queries[-1]
    assert (query.after, query.sorts) == (replace(first, descending=False), (Sort("created_at"),))
    assert seen.html.index("/attempts/12") < seen.html.index("/attempts/11"), "in the normal order again"
    assert ("Previous" in seen.text, "Next" in seen.text) == (True, True)
    # There is nothing newer than the first page, which is shown in full.
    searched.attempts.pages = []
    searched.attempts.rows = ()
    searched.attempts.pages = [(), rows]
    assert "Back" not in (await admin.go(f"{SEARCH}{newer}")).text


async def test_a_sorted_search_has_numbered_pages(searched: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{SEARCH}?q[s]=duration_ms desc&page=2")
    assert searched.attempts.queries[-1].after is None
    assert "page=1" in seen.html
    assert "page=3" in seen.html


async def test_a_page_past_the_last_one_links_to_the_last(
    searched: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to say that no attempts match the filters."""

    async def none(query: AttemptQuery) -> AttemptPage:
        return AttemptPage((), 60, query.page, query.per_page)

    monkeypatch.setattr(searched.attempts, "attempts", none)
    seen = await admin.go(f"{SEARCH}?q[s]=duration_ms desc&page=1000000")
    assert "There is no page 1,000,000 Go to the last page, 3" in seen.text
    assert ("No attempts" in seen.text, "Previous" in seen.text, "page=999999" in seen.html) == (False, False, False)


async def test_empty_results_are_explained(service: Service, admin: Visitor) -> None:
    assert "Nothing has been sent yet." in (await admin.go(SEARCH)).text
    assert "No attempts match these filters." in (await admin.go(f"{SEARCH}?q[order_number_eq]=R9")).text


async def test_an_export_from_the_page(searched: Service, viewer: Visitor) -> None:
    searched.attempts.pages = [searched.attempts.rows]
    seen = await viewer.go(f"{SEARCH}/export.csv?q[state_eq]=failed")
    assert seen.headers["Content-Disposition"] == 'attachment; filename="attempts.csv"'
    assert [row["id"] for row in csv.DictReader(io.StringIO(seen.html))] == ["12", "11"]
    assert searched.attempts.queries[0].conditions == (Condition("state", Predicate.EQ, ("failed",)),)
    assert (await viewer.go(f"{SEARCH}/export.json?bodies=1")).status == 403


async def test_the_page_of_an_attempt(service: Service, admin: Visitor) -> None:
    await service.create()
    found = detail(first_byte_ms=10.0, endpoint_id=1)
    service.attempts.details[11] = replace(found, siblings=(attempt_row(id=10, endpoint_id=1, attempt=1),))
    seen = await admin.go(f"{SEARCH}/11?find=GRÜSSE")

    for part in (
        "Will retry in 1 min , at 2026-03-02 15:06:00 UTC . Not delivered yet.",
        "The endpoint returned 503 (Service Unavailable).",
        "What the receiver should do: Nothing, if it was temporarily overloaded or under maintenance",
        '"note" : ',
        "webhook-id",
        "curl --request POST",
        "they know ada@example.com",
        "waiting for the response: 10 ms",
        "reading the response: 2 ms",
        "evt_1",
        "SKUs SKU-1 , SKU-2",
    ):
        assert part in seen.text, part
    assert "<mark>Grüße</mark>" in seen.html
    assert seen.html.index("/attempts/10") > 0
    assert f'href="{SEARCH}?q%5Bsku_eq%5D=SKU-1"' in seen.html
    assert seen.html.index("Will retry</strong>") < seen.html.index(">Response</h2>") < seen.html.index(">Request</h2>")
    assert [entry.action for entry in service.kafka.audits] == [AuditAction.VIEW_BODY]
    seen = await admin.go(f"{SEARCH}/99")
    assert (seen.status, "it is not recorded yet. Reload the page" in seen.text) == (404, True)


async def test_nothing_is_retried_at_a_deleted_endpoint(service: Service, admin: Visitor) -> None:
    found = detail(endpoint_id=99)
    service.attempts.details[11] = replace(found, siblings=(attempt_row(id=10, endpoint_id=99, attempt=1),))
    service.attempts.rows = (found.attempt,)
    seen = await admin.go(f"{SEARCH}/11")
    assert ("The endpoint was deleted." in seen.text, "What the receiver should do" in seen.text) == (True, False)
    for page in (seen, await admin.go(SEARCH)):
        assert ("(deleted)" in page.text, "will retry" in page.text.lower()) == (True, False)


async def test_an_attempt_shows_what_became_of_its_notification(service: Service, admin: Visitor) -> None:
    await service.create(description="The ERP")
    delivered = attempt_row(
        id=12,
        endpoint_id=1,
        attempt=3,
        state="succeeded",
        outcome="delivered",
        http_status_code=204,
        error=None,
        created_at=NOW + timedelta(seconds=90),
    )
    service.attempts.details[11] = replace(detail(endpoint_id=1), siblings=(delivered,))
    service.attempts.sent["evt_1"] = b"{}"
    seen = await admin.go(f"{SEARCH}/11")
    assert "Delivered at 2026-03-02 15:05:30 UTC on the third attempt." in seen.text
    assert "You are viewing the second attempt, before it was delivered. Show the acknowledged attempt" in seen.text
    assert "will retry" not in seen.text.lower()
    assert "to The ERP" in seen.text
    assert f'href="{SEARCH}/11/resend">Resend…' in seen.html
    assert "button primary" not in seen.html

    asked = await admin.go(f"{SEARCH}/11/resend")
    assert "Resend a delivered notification?" in asked.text
    assert "the endpoint returned 204, on the third attempt." in asked.text
    token = dict(asked.form(f"{SEARCH}/11/resend").fields)["csrf"]
    # The resend button of a page opened before the delivery asks for a confirmation, too.
    seen = await admin.post(f"{SEARCH}/11/resend", [("csrf", token)])
    assert (seen.path, len(service.kafka.to("webhooks.delay.0s"))) == (f"{SEARCH}/11/resend", 0)
    seen = await admin.send(f"{SEARCH}/11/resend")
    assert (seen.path, len(service.kafka.to("webhooks.delay.0s"))) == (f"{SEARCH}/11", 1)


async def test_the_answers_to_two_attempts_are_compared(service: Service, admin: Visitor) -> None:
    await service.create()
    first = replace(
        detail(id=10, endpoint_id=1, attempt=1, created_at=NOW),
        response_body='{"error":"<b>locked</b>","id":7}',
        response_headers=(("Date", "Mon"), ("Server", "nginx/1")),
    )
    second = replace(
        detail(endpoint_id=1),
        response_body='{"error":"\u202eslow","id":7}',
        response_headers=(("Date", "Tue"), ("Server", "nginx/1")),
    )
    service.attempts.details = {10: replace(first, siblings=(second.attempt,)), 11: replace(second, siblings=(first.attempt,))}
    seen = await admin.go(f"{SEARCH}/11")
    assert 'href="?compare=10#compared"' in seen.html
    for page, other in ((11, 10), (10, 11)):
        seen = await admin.go(f"{SEARCH}/{page}?compare={other}")
        diff = seen.html.partition('aria-label="Differences">')[2].partition("</section>")[0]
        assert (
            'class="removed"><span class="unseen">earlier: </span>  &#34;error&#34;: &#34;&lt;b&gt;locked&lt;/b&gt;&#34;,' in diff
        )
        assert 'class="added"><span class="unseen">later: </span>  &#34;error&#34;: &#34;\\u202eslow&#34;,' in diff
        assert 'class="same">server: nginx/1' in diff
        assert "date" not in diff
    assert [entry.subject for entry in service.kafka.audits][-2:] == ["attempt 10", "attempt 11"], "both were viewed"
    assert "compared-title" not in (await admin.go(f"{SEARCH}/11?compare=99")).html, "it belongs to another notification"


async def test_bidirectional_control_characters_are_made_visible(service: Service, admin: Visitor) -> None:
    await service.create()
    found = detail(endpoint_id=1, error="It said \u202egnp.exe")
    service.attempts.details[11] = replace(
        found,
        request_body='{"note":"\u202egnp.exe \u2066x"}',
        response_body="\x1b[31mred\x00",
        response_headers=(("X-Note", "\u200fabc"),),
        request_headers={"webhook-id": "\u202dabc"},
    )
    seen = await admin.go(f"{SEARCH}/11")
    for part in ("It said \\u202egnp.exe", "\\u2066x", "\\u001b[31mred\\u0000", "\\u200fabc", "\\u202dabc"):
        assert part in seen.text, part
    assert not set("\u202e\u2066\u200f\u202d\x1b\x00") & set(seen.html)


async def test_a_viewer_sees_no_bodies(service: Service, viewer: Visitor) -> None:
    service.attempts.details[11] = detail()
    seen = await viewer.go(f"{SEARCH}/11")
    assert "Bodies contain customer data" in seen.text
    assert "ada@example.com" not in seen.html
    assert "Grüße" not in seen.html
    assert "--data-binary @body.json" in seen.text
    assert 'action="/webhooks/attempts/11/resend"' not in seen.html


async def test_a_resend_from_the_page(service: Service, admin: Visitor) -> None:
    await service.create()
    service.attempts.details[11] = detail()
    service.attempts.sent["evt_1"] = b"{}"
    await admin.go(f"{SEARCH}/11")
    seen = await admin.send(f"{SEARCH}/11/resend")
    assert (seen.path, "The notification is queued for endpoint 1." in seen.text) == (f"{SEARCH}/11", True)
    assert len(service.kafka.to("webhooks.delay.0s")) == 1

    service.attempts.sent.clear()
    seen = await admin.send(f"{SEARCH}/11/resend")
    assert "its body has not been recorded yet or has been deleted" in seen.text
    assert len(service.kafka.to("webhooks.delay.0s")) == 1
