"""A leaderboard as text: each recipe once, with the parameters in which it differs from others of its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from automl.errors import ProblemError
from automl.problem import did_you_mean
from automl.report.lines import sentence

__all__ = ["columns_of", "later_lines", "leaderboard_text", "number"]

SHOWN = 12  # rows
PARAMETERS = "parameters"
KEY_PARAMETERS = 28  # columns of text that the key parameters need; others make room for them
SPARED = "fit_seconds"  # left out, after a second metric, where the terminal is narrow
Trial = Mapping[str, Any]
HEADS = {"rank": "#", "fit_seconds": "fit s", PARAMETERS: "key parameters"}
CELLS: Mapping[str, Callable[[Trial], str]] = {
    "rank": lambda t: str(t["rank"]),
    "family": lambda t: t["family"],
    "state": lambda t: t["state"],
    "score": lambda t: number(t["score"]),
    "fit_seconds": lambda t: f"{t['fit_seconds']:.1f}",
    "weight": lambda t: _weight(t),  # noqa: PLW0108  it is defined below
    "recency": lambda t: _recency(t),  # noqa: PLW0108
    "source": lambda t: t["source"],
    "recipe": lambda t: t["recipe"],
    "reason": lambda t: t["reason"],
}


def leaderboard_text(document: Mapping[str, Any], columns: Sequence[str] = ()) -> Group:
    """The recipes with scores; members of the chosen blend show their weight.

    Raises
    ------
    ProblemError
        A column is unknown.
    """
    known = columns_of(document)
    for name in columns:
        if name not in known:
            raise ProblemError(
                f"--columns: found {name!r}; wanted some of {', '.join(known)}{did_you_mean(name, known)}",
                code="usage",
                next_step=f"automl leaderboard FILE --columns {','.join(known[:3])}",
            )
    return Group(
        Text(f"{document['problem']} as of {document['as_of']}", style="bold"),
        *later_lines(document),
        _Rows(document, columns),
        *_foot(document),
    )


def columns_of(document: Mapping[str, Any]) -> list[str]:
    """Names of all columns: those of a trial, the metrics, and every parameter."""
    scores = [document["metric"], *document["also"]]
    names = ["rank", "family", *scores, "blocks", "recency", "fit_seconds", "weight", PARAMETERS]
    names += ["state", "source", "recipe", "reason"]
    params = {name: None for t in document["trials"] for name in _parameters(t)}
    return list(dict.fromkeys([*names, *params]))


def later_lines(document: Mapping[str, Any]) -> list[Any]:
    """That a later cycle is not shown, because it did not train."""
    later = document.get("later")
    if not later:
        return []
    reason = later["reason"].split("\n")[0]
    line = f"not shown: the later cycle of {later['as_of']}, {later['status']}: {reason}"
    return [sentence(line, style="yellow")]


def number(value: float | None) -> str:
    """Four decimals, or one of a large number."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


class _Rows:
    """The table; a narrow terminal has fewer columns, so that the key parameters are seen."""

    def __init__(self, document: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.document, self.columns = document, list(columns)
        trials = {t["recipe"]: t for t in reversed(document["trials"])}
        self.trials = sorted(trials.values(), key=lambda t: t["rank"])[:SHOWN]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        if self.columns:
            yield self._table(self.columns)
            return
        names = self._fitting(options.max_width)
        yield self._table(names, max(KEY_PARAMETERS // 2, options.max_width - self._taken(names)))

    def _fitting(self, width: int) -> list[str]:
        """The usual columns, without those that leave the key parameters no room."""
        names = ["rank", "family", self.document["metric"], *self.document["also"][:1]]
        names += ["blocks", "fit_seconds", "weight", PARAMETERS]
        for spared in (*self.document["also"][:1], SPARED):
            if width - self._taken(names) < KEY_PARAMETERS:
                names.remove(spared)
        return names

    def _taken(self, names: Sequence[str]) -> int:
        return sum(1 + self._width(n) for n in names if n != PARAMETERS)

    def _width(self, name: str) -> int:
        return max(map(len, [self._head(name), *(self._cell(name, t) for t in self.trials)]))

    def _table(self, names: Sequence[str], left: int | None = None) -> Table:
        """The table; `left` is the width of the key parameters, of which as many are shown as fit."""
        # no rules and narrow gaps, to fit 80 columns
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
        for name in names:
            text = name in ("family", PARAMETERS, "state", "source", "reason", "recipe")
            wraps = name in (PARAMETERS, "reason")
            table.add_column(
                self._head(name),
                justify="left" if text else "right",
                no_wrap=not wraps,
                width=left if name == PARAMETERS else None if wraps else self._width(name),
                overflow="fold",
            )
        for t in self.trials:
            style = "bold" if t["weight"] else ""
            table.add_row(*(Text(self._cell(name, t, left)) for name in names), style=style)
        return table

    def _head(self, name: str) -> str:
        arrow = {"higher": " ↑", "lower": " ↓"}.get(self.document["better"], "")
        return HEADS.get(name, name) + (arrow if name == self.document["metric"] else "")

    def _cell(self, name: str, t: Trial, left: int | None = None) -> str:
        metrics = {**t["also"], self.document["metric"]: t["score"]}
        if name in (self.document["metric"], *self.document["also"]):
            return number(metrics.get(name))
        own = {
            "blocks": f"{t['blocks']}/{self.document['blocks']}",
            PARAMETERS: self._key_parameters(t, left) if name == PARAMETERS else "",
        }
        if name in own:
            return own[name]
        return CELLS[name](t) if name in CELLS else _value(_parameters(t).get(name))

    def _key_parameters(self, t: Trial, left: int | None) -> str:
        """Those in which recipes of the family differ, all of the only one; how many more there are than fit."""
        family = [_parameters(o) for o in self.document["trials"] if o["family"] == t["family"]]
        mine = _parameters(t)
        keys = [k for k in mine if len({_value(other.get(k)) for other in family}) > 1]
        shown = [f"{k} {_value(mine[k])}" for k in keys or mine]
        return _fitted(shown, left) if left else ", ".join(shown)


def _parameters(t: Trial) -> dict[str, Any]:
    """Hyperparameters, and how the recipe favours recent rows."""
    recency = {"half_life": t["half_life"], "recent": t["recent"], "trend": t["trend"]}
    return {**t["params"], **{k: v for k, v in recency.items() if v}}


def _fitted(parts: Sequence[str], width: int) -> str:
    """As many parts as fit, whole, and the number of the others.

    >>> _fitted(["depth 3", "rate 0.1", "leaves 31"], width=22)
    'depth 3, rate 0.1, +1'
    """
    for count in range(len(parts), 1, -1):
        rest = len(parts) - count
        text = ", ".join([*parts[:count], *([f"+{rest}"] if rest else [])])
        if len(text) <= width:
            return text
    return ", ".join([*parts[:1], *([f"+{len(parts) - 1}"] if len(parts) > 1 else [])])


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _foot(document: Mapping[str, Any]) -> list[Any]:
    states = [t["state"] for t in document["trials"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed"))
    recipes = len({t["recipe"] for t in document["trials"]})
    hidden = f"; {recipes - SHOWN} more with --json" if recipes > SHOWN else ""
    failed = [
        f"failed: {t['family']}: {t['reason']}"
        for t in document["trials"]
        if t["state"] == "failed"
    ]
    lines = [sentence(line, style="yellow") for line in failed[:3]]
    return [Text(f"{len(states)} trials: {counts}{hidden}"), *lines]


def _weight(trial: Trial) -> str:
    """Weight in the chosen blend, or the state of a trial that did not complete."""
    if trial["state"] != "complete":
        return str(trial["state"])
    return f"{trial['weight']:.0%}" if trial["weight"] else ""


def _recency(trial: Trial) -> str:
    """How a recipe favours recent rows: half-life, a last stage on them, time as a column."""
    parts = [f"{trial['half_life']:g}"] if trial["half_life"] else []
    parts += [name for name in ("recent", "trend") if trial[name]]
    return "+".join(parts) or "-"
