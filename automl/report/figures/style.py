"""How every picture of a report looks: one size that a phone can show, colours that colour-blind eyes can tell apart.

Okabe and Ito 2008, "Color universal design". Shapes and labels say everything that colours say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO, StringIO
from logging import WARNING, getLogger
from typing import Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LIGHT",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "RED",
    "SKY",
    "WIDTH",
    "Picture",
    "date_axis",
    "drawing",
    "listed",
    "moment",
    "new_figure",
    "percent",
    "shortened",
]

BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, GREY, INK, LIGHT = "#cc79a7", "#56b4e9", "#6b7280", "#1f2933", "#d8dee6"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY, INK)
WIDTH = 5.4  # inches; on a phone it shrinks by less than a third
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "automl",  # the same document gives the same file
    "text.parse_math": False,  # a column may be called $x$
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7ebf0",
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}
# matplotlib numbers its groups; several pictures in a page would share these ids
_IDS = re.compile(
    r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|legend|\w+Collection|\w+)_\d+"'
)
_SIZE = re.compile(
    r'<svg ([^>]*?)width="[\d.]+pt" height="[\d.]+pt"|<svg ([^>]*?)height="[\d.]+pt" width="[\d.]+pt"'
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A figure with its name, title, and a sentence that says what it shows."""

    name: str
    title: str
    sentence: str
    figure: Figure

    def svg(self) -> str:
        """For a page: without size, so that it fills the width it is given."""
        with drawing():
            out = StringIO()
            self.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        # the next file need not find the places of everything once more
        self.figure.set_layout_engine("none")
        text = out.getvalue()
        text = _IDS.sub("", text[text.index("<svg") :])
        return _SIZE.sub(lambda m: f'<svg role="img" {m[1] or m[2]}', text, count=1)

    def png(self) -> bytes:
        """For MLflow."""
        with drawing():
            out = BytesIO()
            self.figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
        return out.getvalue()


@contextmanager
def drawing() -> Iterator[None]:
    """Settings of every picture; drawing and saving happen inside."""
    getLogger("matplotlib").setLevel(WARNING)  # it tells when it looks for fonts
    with mpl.rc_context(SETTINGS):
        yield


def new_figure(height: float = 3.2, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """A figure and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(1, columns, **more)


def moment(text: str) -> datetime:
    """A time of the document, without its zone."""
    return datetime.fromisoformat(text).replace(tzinfo=None)


def date_axis(axes: Any) -> None:
    """Few ticks, each as short as it can be."""
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def percent(value: float, digits: int = 1) -> str:
    """A share as a signed percentage.

    >>> percent(0.0123)
    '+1.2 %'
    """
    return f"{100 * value:+.{digits}f} %"


def shortened(text: str, most: int = 22) -> str:
    """Text for a label.

    >>> shortened("a very long name of a column", 10)
    'a very lo…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
