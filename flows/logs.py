"""The engine's log lines shown with a run in Prefect, and the warnings among them collected."""

from __future__ import annotations

import logging
import re

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

from automl.redaction import WithoutSecrets, redact

__all__ = ["Findings", "forward_logs"]

_CODE = re.compile(r"(.*?)\s*\[(\w+)\]$", re.DOTALL)  # a warning ends with its code


class Findings(logging.Handler):
    """Warnings of a run, as rows of a table."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.rows: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning."""
        self.add(record.getMessage())

    def add(self, warning: str) -> None:
        """Add a warning, unless it is there."""
        text = redact(warning)
        found = _CODE.fullmatch(text)
        row = {"code": found[2] if found else "", "warning": found[1] if found else text}
        if row not in self.rows:
            self.rows.append(row)


def _without_echo(record: logging.LogRecord) -> bool:
    """Whether a line of Prefect says more than the refusal that the flow logs itself."""
    return not record.getMessage().startswith("Task run failed with state")


def forward_logs() -> Findings:
    """Show the engine's log lines with the run in Prefect; returns what collects its warnings."""
    logger = logging.getLogger("automl")
    logger.setLevel(logging.INFO)
    for earlier in [h for h in logger.handlers if isinstance(h, Findings)]:
        logger.removeHandler(earlier)
    findings = Findings()
    logger.addHandler(findings)
    logging.getLogger("prefect.task_runs").addFilter(_without_echo)
    if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
        handler = APILogHandler()
        handler.setFormatter(WithoutSecrets())
        # a thread of ours belongs to no run: Prefect would warn that it cannot assign the line
        handler.addFilter(lambda _: bool(TaskRunContext.get() or FlowRunContext.get()))
        logger.addHandler(handler)
    return findings
