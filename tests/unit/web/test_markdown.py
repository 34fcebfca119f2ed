from __future__ import annotations

import pytest
from markupsafe import Markup

from pipeline.web.markdown import Heading, LinkError, render


def html(text: str) -> str:
    return render(text, inserts={}, links={}).html


def test_headings_have_the_same_anchors_as_on_github() -> None:
    document = render("# One\n\n## 2. Register `it`, now\n\ntext\n", inserts={}, links={})
    assert document.headings == [Heading(1, "one", "One"), Heading(2, "2-register-it-now", "2. Register `it`, now")]
    assert '<h2 id="2-register-it-now">2. Register <code>it</code>, now</h2>' in document.html


def test_tables_are_rendered() -> None:
    assert "<td>1</td>" in html("| a |\n|---|\n| 1 |\n")


def test_html_in_a_document_is_escaped() -> None:
    assert "<script>" not in html("a <script>alert(1)</script> b\n\n<script>alert(2)</script>\n")
    assert "&lt;script&gt;" in html("a <script>alert(1)</script> b\n")


def test_code_is_escaped() -> None:
    assert "&lt;b&gt;" in html("```html\n<b>\n```\n")


def test_long_lines_of_code_can_be_scrolled_with_the_keyboard() -> None:
    assert '<pre tabindex="0">' in html("```\na\n```\n")


def test_an_insert_replaces_its_marker() -> None:
    document = render("before\n\n<!-- page: here -->\n\nafter\n", inserts={"here": Markup("<i>in</i>")}, links={})
    assert document.html.replace("\n", "") == "<p>before</p><i>in</i><p>after</p>"


def test_a_missing_insert_is_an_error() -> None:
    with pytest.raises(KeyError, match="here"):
        render("<!-- page: here -->\n", inserts={}, links={})


def test_links_to_files_are_rewritten() -> None:
    text = "[a](api.md), [b](#below), [c](https://example.com/x) and **[d](api.md)**"
    made = render(text, inserts={}, links={"api.md": "/reference"}).html
    assert [part.split('"')[0] for part in made.split('href="')[1:]] == [
        "/reference",
        "#below",
        "https://example.com/x",
        "/reference",
    ]


@pytest.mark.parametrize("target", ["other.md", "javascript:alert(1)", "//example.com", "http://example.com"])
def test_a_link_without_a_target_is_an_error(target: str) -> None:
    # markdown-it does not render links that it considers dangerous.
    if target.startswith("javascript:"):
        assert "<a" not in html(f"[x]({target})")
        return
    with pytest.raises(LinkError, match="links to"):
        html(f"[x]({target})")
