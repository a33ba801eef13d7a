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
