"""What a reviewer reads about a cycle in MLflow: note, tags, metrics and small documents, made from plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import distributions
from typing import Any

from automl.history.contract import contract_file
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend
from automl.monitoring.promises import LiveLoss
from automl.promotion.evidence import shown_probability
from automl.promotion.guards import Guard
from automl.promotion.release import PendingDecision
from automl.retrain.choice import Choice, mean_score
from automl.retrain.search import Sweep
from automl.sweep import Leaderboard, Work, blend_outputs
from automl.tracking import DECISIONS, LEADERBOARD, LIVE, LIVE_LOSS, PROMISED_LOSS, view_link

__all__ = [
    "CycleSummary",
    "cycle_artifacts",
    "cycle_metrics",
    "cycle_note",
    "cycle_series",
    "cycle_tags",
]

SHORT = 60  # letters of a winner in the note; with more the line would be broken
_HEADS = {
    "first": "✔ Promoted",
    "promote": "✔ Promoted",
    "revert": "↺ Reverted to the previous champion, refitted as",
    "keep": "– Kept the champion, refitted as",
    "stay": "– Kept the champion unchanged,",
}
# outcome -> the run's tag `decision`, and its colour
_WORDS = {
    "first": ("promoted (first)", "#2b8a3e"),
    "promote": ("promoted", "#2b8a3e"),
    "revert": ("reverted", "#e8590c"),
    "keep": ("kept", "#868e96"),
    "stay": ("kept unchanged", "#868e96"),
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CycleSummary:
    """Everything that note, tags and documents of a cycle are made of."""

    sweep: Sweep
    choice: Choice
    version: int  # of the champion
    guards: Sequence[Guard]
    experiment: str
    run_id: str

    @property
    def work(self) -> Work:
        """What the sweep worked on."""
        return self.sweep.work

    @property
    def leaderboard(self) -> Leaderboard:
        """The result of the sweep."""
        return self.sweep.leaderboard

    @property
    def pending(self) -> PendingDecision:
        """The decision, as it is made effective."""
        return self.choice.pending


def cycle_metrics(summary: CycleSummary) -> dict[str, float]:
    """Metrics of the parent run, the scores first; never a key of the child runs."""
    metric, leaderboard = summary.work.metric, summary.leaderboard
    best = next((t for t in leaderboard.ranked if t.status == "complete"), None)
    values: dict[str, float] = {f"best_{metric.name}": best.score} if best else {}
    values[f"champ_{metric.name}"] = mean_score(summary.work, summary.choice.blend)
    verdict = summary.choice.verdict
    if verdict:
        # two digits of a percent: MLflow prints numbers as they are
        values |= {
            "gain_pct": round(100 * verdict.shrunk, 2),
            "gain_low": round(100 * verdict.low, 2),
            "gain_high": round(100 * verdict.high, 2),
            "p_better": round(verdict.probability, 3),
        }
    return values | {
        "n_trials": len(leaderboard.trials),
        "n_failed": sum(t.status == "failed" for t in leaderboard.trials),
        "n_pruned": sum(t.status == "pruned" for t in leaderboard.trials),
        "minutes": round(leaderboard.seconds / 60, 2),
        "fit_share": round(leaderboard.time_in_fits(summary.work.workers), 3),
    }


def cycle_series(losses: Sequence[LiveLoss]) -> dict[str, list[tuple[int, float]]]:
    """What each published generation lost and what was promised, as (day, loss): two lines in a chart."""
    live = [(_day(x.as_of), x.loss) for x in losses]
    promised = [(_day(x.as_of), x.promised) for x in losses if x.promised is not None]
    return {
        name: points for name, points in ((LIVE_LOSS, live), (PROMISED_LOSS, promised)) if points
    }


def cycle_tags(summary: CycleSummary) -> dict[str, str]:
    """Tags of the parent run."""
    word, colour = _WORDS[summary.pending.outcome]
    if summary.pending.waiting:
        word += ", challenger waiting"
    return {
        "decision": word,
        "winner": str(summary.choice.blend),
        "champion_version": str(summary.version),
        "mlflow.runColor": colour,
    }


def cycle_note(summary: CycleSummary) -> str:
    """The decision first, the undo last, in four lines: MLflow folds what is longer."""
    lines = [_headline(summary), _gain(summary), _links(summary), _undo(summary)]
    return "  \n".join(lines)


def decision_page(summary: CycleSummary) -> str:
    """The decision with everything that it rests on, as a page of its own."""
    leaderboard, work = summary.leaderboard, summary.work
    guards = [f"{'✓' if g.passed else '✗'} {g.name} ({g.found})" for g in summary.guards]
    blocks = [b.name for b in work.blocks]
    score = mean_score(work, summary.choice.blend)
    lines = [
        f"**{_HEADS[summary.pending.outcome]} v{summary.version}**: {summary.choice.blend}",
        "",
        f"- {summary.pending.reason}",
        *_details(summary),
        f"- {work.metric.name} {score:.4f} {work.metric.arrow} over {len(blocks)} blocks ({', '.join(blocks)})",
        f"- {leaderboard.in_words}",
        *([f"- guards: {' · '.join(guards)}"] if guards else []),
        f"- {_undo(summary)}",
    ]
    return "\n".join(lines) + _slices(summary)


def cycle_artifacts(summary: CycleSummary) -> dict[str, str | dict[str, Any]]:
    """Small documents of the parent run; never a row of data."""
    problem = summary.work.problem
    rows = [
        {
            "rank": i,
            summary.work.metric.name: t.score,
            "family": t.recipe.family,
            "state": t.status,
            **t.also,
            "blocks": len(t.scores),
            "fit_s": t.seconds_fit,
            "half_life": t.recipe.half_life,
            "recent": t.recipe.recent,
            "trend": t.recipe.trend,
            "params": t.recipe.params,
            "reason": t.reason,
        }
        for i, t in enumerate(summary.leaderboard.ranked, 1)
    ]
    return {
        "decision.md": decision_page(summary),
        "decision.json": json.loads(
            json.dumps(
                {
                    **summary.pending.content,
                    "reason": summary.pending.reason,
                    "version": summary.version,
                    "guards": [asdict(g) for g in summary.guards],
                },
                default=str,
            )
        ),
        "leaderboard.json": {
            "columns": list(rows[0]) if rows else [],
            "data": [list(r.values()) for r in rows],
        },
        "config/problem.toml": problem.file.read_text(encoding="utf-8"),
        "data/contract.json": contract_file(problem).read_text(encoding="utf-8"),
        "env/requirements.txt": "\n".join(_packages()) + "\n",
    }


def _headline(summary: CycleSummary) -> str:
    metric = summary.work.metric
    score = mean_score(summary.work, summary.choice.blend)
    head = (
        f"**{_HEADS[summary.pending.outcome]} v{summary.version}**: {_short(summary.choice.blend)}"
    )
    return f"{head}; {metric.name} {score:.4f} {metric.arrow} on {len(summary.work.blocks)} blocks"


def _gain(summary: CycleSummary) -> str:
    """Gain with its interval, and what was needed; without a challenger, the reason."""
    v = summary.choice.verdict
    if v is None:
        return summary.pending.reason
    text = (
        f"gain {v.shrunk:+.2%} (90 % interval {v.low:+.2%} to {v.high:+.2%}); P(better) "
        f"{shown_probability(v.probability)}, {shown_probability(v.needed)} needed; "
        f"{v.blocks} blocks, {v.out_of_sample} out-of-sample"
    )
    probe = summary.pending.content.get("probation")
    if summary.pending.outcome == "revert" and probe:
        text = str(probe["reason"])
    return text


def _links(summary: CycleSummary) -> str:
    """Where to look further, and the challenger that waits; or how much was tried."""
    run = f"#/experiments/{summary.experiment}/runs/{summary.run_id}"
    links = [
        f"[why]({run}/artifacts/decision.md)",
        f"[report and plots]({run}/artifacts)",
        f"[decisions]({view_link('', summary.experiment, DECISIONS)})",
        f"[leaderboard]({view_link('', summary.experiment, LEADERBOARD)})",
        f"[live loss]({view_link('', summary.experiment, LIVE)}&compareRunsMode=CHART)",
    ]
    waiting = summary.pending.waiting
    if waiting is not None:
        links.append(
            f"v{waiting.model_version} awaits approval until {waiting.expires_at:%Y-%m-%d %H:%M}"
        )
    else:
        statuses = [t.status for t in summary.leaderboard.trials]
        pruned, failed = statuses.count("pruned"), statuses.count("failed")
        links.append(f"{len(statuses)} trials ({pruned} pruned, {failed} failed)")
    return " · ".join(links)


def _undo(summary: CycleSummary) -> str:
    """The command that undoes the decision; of a challenger that waits, the one that accepts it."""
    file, waiting = summary.work.problem.file.name, summary.pending.waiting
    if waiting is not None:
        return f"approve: `automl approve {file} {waiting.model_version} --reason ...`, or `automl reject {file} ...`"
    if summary.pending.outcome == "first":  # there is nothing to go back to
        return f"undo: `automl retrain {file} --again --reason ...` decides once more"
    return f"undo: `automl rollback {file} --reason ...`"


def _short(blend: Blend) -> str:
    """A blend in about sixty letters: its heaviest members."""
    parts = str(blend).split(" + ")
    kept = [part for i, part in enumerate(parts) if len(" + ".join(parts[: i + 1])) <= SHORT]
    left = len(parts) - len(kept)
    return " + ".join(kept) + (f" + {left} more" if left else "")


def _details(summary: CycleSummary) -> list[str]:
    """Waiting challenger, attribution of the gain, and probation, where there are any."""
    lines, content = [], summary.pending.content
    waiting = summary.pending.waiting
    if waiting is not None:
        lines.append(
            f"- version {waiting.model_version} ({waiting.blend}) awaits approval until "
            f"{waiting.expires_at:%Y-%m-%d %H:%M}; the tag `approved` on it is an approval too"
        )
    if content.get("attribution"):
        lines.append(f"- {content['attribution']['text']}")
    if content.get("probation") and summary.pending.outcome != "revert":
        lines.append(f"- probation: {content['probation']['reason']}")
    return lines


def _day(moment: datetime) -> int:
    """Number of the day since 1970: the step of a metric over cycles."""
    return int(moment.timestamp() // 86400)


@cache
def _packages() -> list[str]:
    """Installed packages with versions; read once, because that takes half a second."""
    return sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)


def _slices(summary: CycleSummary) -> str:
    """Scores of the chosen blend per declared slice on the newest block, largest slices first."""
    names = summary.work.problem.metric.slices
    outputs = blend_outputs(summary.work, summary.choice.blend)
    if not names or not outputs:
        return ""
    metric = get_metric(summary.work.problem.metric.name)
    rows = summary.work.frame.iloc[summary.work.blocks[0].validation]
    lines = ["", "", "| slice | rows | score |", "| --- | ---: | ---: |"]
    for name in names:
        values = rows[name].to_numpy()
        for value, count in rows[name].value_counts().head(8).items():
            score = outputs[0].take(values == value).score(metric)
            lines.append(f"| {name} = {value} | {count} | {score:.4f} |")
    return "\n".join(lines)
