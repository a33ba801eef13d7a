"""Alerts: one message when something is wrong, none while it stays so, one when it has recovered.

Open alerts are in the store. Nothing here raises, or makes a cycle wait longer than the deadline of `sending`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from automl.cycles.options import BACKWARDS
from automl.errors import AutomlError, BusyError
from automl.monitoring.sending import send
from automl.problem import Problem, in_sql
from automl.redaction import redact
from automl.store import Store, alert_sent, close_alert, open_alert
from automl.workspace import Workspace

__all__ = ["alerting", "failure_text", "raise_alert", "recover"]

_inside: ContextVar[bool] = ContextVar("alerting", default=False)
_log = logging.getLogger(__name__)
# refused by the command line, before a cycle began
USAGE = (BACKWARDS, "no_reason", "problem_changed", "nothing_waits")
CLOSES = {
    "cycle": ("cycle", "retrain", "score"),
    "retrain": ("retrain", "cycle"),
    "score": ("score",),
}


@contextmanager
def alerting(
    problem: Problem, workspace: Workspace, verb: str, *, trial: bool = False
) -> Iterator[None]:
    """Alert when the cycle inside fails, and when one succeeds after that; the error passes.

    A retraining inside a cycle is part of it. A cycle that another run holds, wrong usage and interruptions are no
    alerts; nor is anything in a dry run (`trial`).
    """
    if trial or _inside.get():
        yield
        return
    token = _inside.set(True)
    try:
        yield
    except Exception as error:
        if not isinstance(error, BusyError) and getattr(error, "code", "") not in USAGE:
            title, text = failure_text(problem, workspace, verb, error)
            raise_alert(problem, workspace, f"failed {verb}", title, text)
        raise
    else:
        for closed in CLOSES.get(verb, (verb,)):
            recover(problem, workspace, f"failed {closed}", f"{problem.name}: {closed} works again")
    finally:
        _inside.reset(token)


def failure_text(
    problem: Problem, workspace: Workspace, verb: str, error: BaseException
) -> tuple[str, str]:
    """Title and text of the message about a failure: what broke, what still works, what to type."""
    reason = str(error) if isinstance(error, AutomlError) else f"{type(error).__name__}: {error}"
    step = getattr(error, "next_step", "") or f"automl status {problem.file.name}"
    lines = [
        f"What broke: {redact(reason)}",
        f"What still works: {_in_effect(problem, workspace)}",
        f"What to do: {step}",
        f"Try again: automl {verb} {problem.file}",
    ]
    return f"{problem.name}: {verb} failed", "\n".join(lines)


def raise_alert(problem: Problem, workspace: Workspace, kind: str, title: str, text: str) -> bool:
    """Open an alert, and send it unless it is open and was sent already; whether a message went out."""
    try:
        store = Store(workspace)
        alert, _ = open_alert(store, problem.name, kind, title, text)
    except Exception as error:  # noqa: BLE001  the store may be what failed
        _log.warning(
            "the alert is not recorded (%s); it is sent all the same", type(error).__name__
        )
        return send(problem, title, text, failure=True)
    if alert.sent_at is not None or not send(problem, title, text, failure=True):
        return False
    try:
        alert_sent(store, alert)
    except Exception as error:  # noqa: BLE001  it is sent; at worst it is sent again
        _log.warning("the alert is not recorded as sent: %s", type(error).__name__)
    return True


def recover(problem: Problem, workspace: Workspace, kind: str, title: str) -> bool:
    """Close the open alert of a kind, and say so where it was sent; whether a message went out."""
    try:
        alert = close_alert(Store(workspace), problem.name, kind)
    except Exception as error:  # noqa: BLE001  a cycle never fails because of an alert
        _log.warning("the alert could not be closed: %s", type(error).__name__)
        return False
    if alert is None or alert.sent_at is None:
        return False
    text = f"Recovered. It was open since {alert.opened_at:%Y-%m-%d %H:%M} UTC: {alert.title}"
    return send(problem, title, text, failure=False)


def _in_effect(problem: Problem, workspace: Workspace) -> str:
    try:
        store = Store(workspace)
        champion, live = store.champion(problem.name), store.live(problem.table)
    except Exception:  # noqa: BLE001  the store may be what failed
        return "unknown, the store cannot be read; readers see one complete generation"
    if champion is None:
        return "nothing was released before"
    shown = f"champion version {champion.model_version}"
    if live is not None:
        window = f"{live.as_of:%Y-%m-%d %H:%M} to {live.until:%Y-%m-%d %H:%M}"
        shown += f"; {in_sql(problem.table)} shows generation {live.id}, {live.rows} rows, {window}"
    return shown
