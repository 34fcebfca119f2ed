"""The pages of dead letters: the list, one dead letter with its bytes, and republishing."""

from __future__ import annotations

import base64

from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service
from tests.unit.web.test_republishing import EVENT, letter

LIST = "/webhooks/dead-letters"
AGAIN = f"{LIST}/7/republish"


async def test_the_list(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.VIEWER))
    assert "There is nothing to repair." in (await visitor.go(LIST)).text
    service.reports.letters = [letter()]
    seen = await visitor.go(f"{LIST}?q[reason_eq]=not_json&q[colour_eq]=red")
    for part in ("Not JSON", "oms.orders", "1 dead letter", "dead letters have no such filter"):
        assert part in seen.text, part
    assert service.reports.asked[-1] == ("not_json", None)
    assert f'href="{LIST}/7"' not in seen.html, "viewers do not see bytes"


async def test_a_page_past_the_last_one_links_to_the_last(service: Service, admin: Visitor) -> None:
    """It used to say that there was nothing to repair."""
    service.reports.letters = [letter()]
    seen = await admin.go(f"{LIST}?q[topic_eq]=oms.orders&page=1000000")
    assert "There is no page 1,000,000 Go to the last page, 1" in seen.text
    assert 'href="?page=1&amp;q%5Btopic_eq%5D=oms.orders"' in seen.html
    assert ("nothing to repair" in seen.text, "None match" in seen.text, "Previous" in seen.text) == (False, False, False)


async def test_viewing_the_bytes_is_audited(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter(value=b"\xff{")]
    seen = await admin.go(f"{LIST}/7")
    for part in ("Fix the JSON (UTF-8)", "R1", "in base64", base64.b64encode(b"\xff{").decode(), "trace"):
        assert part in seen.text, part
    assert "oms-webhooks-dead-letter" not in seen.text
    assert [(entry.action, entry.subject) for entry in service.kafka.audits] == [(AuditAction.VIEW_DEAD_LETTER, "dead letter 7")]
    assert (await admin.go(f"{LIST}/8")).status == 404


async def test_a_key_with_a_line_break_is_edited_in_base64(service: Service, admin: Visitor) -> None:
    """A browser removes line breaks from such a field: the record would be published with another key."""
    service.reports.letters = [letter(key=b"R1\nR2")]
    seen = await admin.go(f"{LIST}/7")
    in_base64 = base64.b64encode(b"R1\nR2").decode()
    assert f'value="{in_base64}"' in seen.html
    assert '<input type="hidden" name="key_encoding" value="base64">' in seen.html


async def test_the_editor_escapes_bidirectional_control_characters(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter(value='{"note":"a\u202eb\x07",,}'.encode())]
    seen = await admin.go(f"{LIST}/7")
    [text] = [value for form in seen.forms for name, value in form.fields if name == "value"]
    assert text == '{"note":"a\\u202eb\x07",,}'
    assert "\u202e" not in seen.html


async def test_a_draft_that_would_fail_again_is_kept(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter(key=None)]
    await admin.go(f"{LIST}/7")
    seen = await admin.post(AGAIN, [("csrf", token(admin)), ("key", ""), ("value", '{"id":\r\n"x"}')])
    assert seen.status == 422
    for part in ("the record would become a dead letter again.", "The record has no key", "event_name: Field required."):
        assert part in seen.text, part
    assert '{"id":\n&#34;x&#34;}' in seen.html or "{&#34;id&#34;:\n&#34;x&#34;}" in seen.html
    assert service.kafka.to("oms.orders") == []


async def test_republishing_repaired_or_unchanged(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter()]
    await admin.go(f"{LIST}/7")
    text = EVENT.decode().replace("{", "{\r\n", 1)
    fields = [("csrf", token(admin)), ("key", "R1"), ("value", text), ("value_encoding", "base64"), ("value_encoding", "text")]
    seen = await admin.post(AGAIN, fields)
    assert "Published again to oms.orders." in seen.text
    assert "q%5Bevent_id_eq%5D=evt-1" in seen.html

    service.reports.letters = [letter(value=EVENT)]
    await admin.go(f"{LIST}/7")
    assert (await admin.post(AGAIN, [("csrf", token(admin))])).status == 200
    repaired, as_it_was = service.kafka.to("oms.orders")
    assert repaired.value == EVENT.replace(b"{", b"{\n", 1), "line breaks are LF"
    assert as_it_was.value == EVENT
    details = [entry.detail for entry in service.kafka.audits if entry.action is AuditAction.REPUBLISH]
    assert [one for one in details if not one.startswith("published ")] == [
        "to oms.orders, event evt-1, repaired: value",
        "to oms.orders, event evt-1, as it was",
    ]
    assert [one for one in details if one.startswith("published ")] == [
        "published to oms.orders, partition 0, offset 0, event evt-1",
        "published to oms.orders, partition 0, offset 1, event evt-1",
    ]


async def test_a_repaired_dead_letter_names_its_repairer_and_leaves_the_list(service: Service, visitor: Visitor) -> None:
    _, key = await service.ring.create(
        service.kafka, name="support desk", role=Access.OPERATOR, created_by="a test", at=NOW, owner="Ada Lovelace"
    )
    await visitor.log_in(key)
    service.reports.letters = [letter()]
    assert "1 dead letter" in (await visitor.go(LIST)).text
    await visitor.go(f"{LIST}/7")
    await visitor.post(AGAIN, [("csrf", token(visitor)), ("key", "R1"), ("value", EVENT.decode())])
    assert "There is nothing to repair." in (await visitor.go(LIST)).text
    seen = await visitor.go(f"{LIST}?q[repaired_eq]=true")
    assert "Ada Lovelace published it again" in seen.text
    assert "Ada Lovelace published it again" in (await visitor.go(f"{LIST}/7")).text
    assert {entry.actor_name for entry in service.kafka.audits if entry.action is AuditAction.REPUBLISH} == {"Ada Lovelace"}


async def test_two_people_who_repair_it_do_not_both_publish_it(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter()]
    mine = await admin.go(f"{LIST}/7")
    fields = [("key", "R1"), ("value", EVENT.decode()), ("repaired", "")]
    await admin.post(AGAIN, [("csrf", token(admin)), *fields])
    admin.seen = mine
    seen = await admin.post(AGAIN, [("csrf", token(admin)), *fields, ("key_encoding", "text")])
    assert (seen.status, "published it again while you had this page open" in seen.text) == (409, True)
    assert "evt-1" in dict(seen.forms[2].fields)["value"], "the input is kept"
    assert len(service.kafka.to("oms.orders")) == 1
    # Somebody who has seen that may publish it once more.
    known = dict(seen.forms[2].fields)["repaired"]
    seen = await admin.post(AGAIN, [("csrf", token(admin)), *fields[:2], ("repaired", known)])
    assert (seen.status, len(service.kafka.to("oms.orders"))) == (200, 2)


async def test_an_unconfirmed_republish_stays_in_the_list(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter()]
    await admin.go(f"{LIST}/7")

    def stop(entry: AuditEntry) -> None:
        service.kafka.is_down = entry.action is AuditAction.REPUBLISH

    service.kafka.on_audit = stop
    seen = await admin.post(AGAIN, [("csrf", token(admin)), ("key", "R1"), ("value", EVENT.decode())])
    assert seen.status == 503
    service.kafka.is_down = False
    assert "1 dead letter" in (await admin.go(LIST)).text


async def test_a_text_is_checked_and_formatted_without_being_published(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter()]
    seen = await admin.go(f"{LIST}/7")
    assert "Line 1, column 2" in seen.text, "the problem of the original record"
    check = f"{LIST}/7/check"
    fields = [("csrf", token(admin)), ("key", "R1")]
    seen = await admin.post(check, [*fields, ("value", '{"id":\r\n 1.50,}'), ("part", "1")])
    assert (seen.status, "Line 2, column" in seen.text, "<form" in seen.html) == (200, True, False)
    await admin.go(f"{LIST}/7")
    seen = await admin.post(check, [*fields, ("value", '{"id": 1.50, "data": {}}'), ("do", "format")])
    assert "{\n  &#34;id&#34;: 1.50,\n  &#34;data&#34;: {}\n}" in seen.html
    seen = await admin.post(check, [*fields, ("value", EVENT.decode())])
    assert "It can be published: Order completed" in seen.text
    assert service.kafka.to("oms.orders") == []


async def test_a_record_that_is_not_an_event_is_not_published(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter(topic="webhooks.attempts")]
    seen = await admin.go(f"{LIST}/7")
    assert ("Check and publish" in seen.text, "This record is not an event from a producer" in seen.text) == (False, True)
    seen = await admin.post(AGAIN, [("csrf", token(admin))])
    assert "This record came from webhooks.attempts" in seen.text


async def test_dead_letters_of_our_own_topics_can_be_dismissed(service: Service, admin: Visitor) -> None:
    """Nothing can be published to those topics, so the dead letter would stay in the list."""
    service.reports.letters = [letter(topic="webhooks.delay.5s")]
    await admin.go(f"{LIST}/7")
    seen = await admin.send(f"{LIST}/7/dismiss")
    assert (seen.path, "There is nothing to repair." in seen.text) == (LIST, True)
    entry = service.kafka.audits[-1]
    assert (entry.action, entry.subject, entry.detail) == (
        AuditAction.DISMISS_DEAD_LETTER,
        "dead letter 7",
        "from webhooks.delay.5s",
    )
    done = f"{entry.actor_name} dismissed it"
    assert done in (await admin.go(f"{LIST}?q[repaired_eq]=true")).text
    seen = await admin.go(f"{LIST}/7")
    assert ("Dismissed:" in seen.text, done in seen.text, f"{LIST}/7/dismiss" in seen.html) == (True, True, False)


async def test_a_dead_letter_dismissed_meanwhile_is_not_published_unseen(service: Service, admin: Visitor) -> None:
    service.reports.letters = [letter()]
    mine = await admin.go(f"{LIST}/7")
    await admin.send(f"{LIST}/7/dismiss")
    admin.seen = mine
    seen = await admin.post(AGAIN, [("csrf", token(admin)), ("key", "R1"), ("value", EVENT.decode()), ("repaired", "")])
    assert (seen.status, "dismissed it while you had this page open" in seen.text) == (409, True)
    assert ("the endpoints get the event twice" in seen.text, service.kafka.to("oms.orders")) == (False, [])


def token(visitor: Visitor) -> str:
    """The token of the current page."""
    assert visitor.seen is not None
    return dict(visitor.seen.form("/webhooks/logout").fields)["csrf"]
