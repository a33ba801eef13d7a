"""What people look at in a terminal: the store's rows as plain documents, and documents as text.

Every `x(...)` returns what `--json` prints; every `x_text(...)` turns that into something to read in 80
columns. Nothing here imports MLflow or scikit-learn.
"""

from automl.report.documents import (
    champion,
    checked,
    deployments,
    families,
    finished,
    in_effect,
    leaderboard,
    result,
    schedule_text,
    status,
    ui_command,
    why,
)
from automl.report.text import (
    champion_text,
    checked_text,
    families_text,
    family_text,
    leaderboard_text,
    result_text,
    status_text,
    turned_out_text,
    why_text,
)

__all__ = [
    "champion",
    "champion_text",
    "checked",
    "checked_text",
    "deployments",
    "families",
    "families_text",
    "family_text",
    "finished",
    "in_effect",
    "leaderboard",
    "leaderboard_text",
    "result",
    "result_text",
    "schedule_text",
    "status",
    "status_text",
    "turned_out_text",
    "ui_command",
    "why",
    "why_text",
]
