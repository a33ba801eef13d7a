"""A document is a mapping, a text and a table in a notebook."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from automl.api.shown import Shown

DOCUMENT = {
    "problem": "a <b> & c",
    "champion": {"version": 3, "score": 0.123456789},
    "cycles": [{"as_of": "2026-03-02", "status": "kept"}, {"as_of": "2026-03-09", "reason": None}],
    "empty": [],
}


def test_it_reads_like_the_document() -> None:
    shown = Shown(DOCUMENT, lambda d: d["problem"])

    assert dict(shown) == DOCUMENT
    assert shown["champion"]["version"] == 3


def test_it_prints_as_the_command_does() -> None:
    assert str(Shown(DOCUMENT, lambda d: d["problem"])) == "a <b> & c"


def test_it_is_a_table_in_a_notebook_with_its_texts_escaped() -> None:
    html = Shown(DOCUMENT, str)._repr_html_()

    tree = ET.fromstring(html)
    assert [th.text for th in tree.findall("./tbody/tr/th")] == list(DOCUMENT)
    assert tree.findtext("./tbody/tr/td") == "a <b> & c"
    assert "0.12346" in html
    assert [th.text for th in tree.iter("th")][-4:-1] == ["as_of", "status", "reason"]


def test_a_notebook_shows_no_empty_values_inside_tables_and_the_first_of_many() -> None:
    document = {"rule": {"holder": "a", "rivals": [], "more": {"least": None}}, "missed": list(range(90)), "none": {"x": None}}  # fmt: skip
    html = Shown({**document, "at": "2013-11-12T08:10:22.556719Z"}, str)._repr_html_()

    tree = ET.fromstring(html)
    assert [th.text for th in tree.iter("th")] == ["rule", "holder", "missed", "none", "at"]
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 78 more" in html
    assert tree.findall("./tbody/tr/td")[2].text == "-"
    assert "2013-11-12T08:10:22Z" in html
