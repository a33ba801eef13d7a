"""Results for people: plain documents for `--json` and tables, and text to read in 80 columns.

Every `x(...)` returns a document; every `x_text(...)` renders it. Nothing here imports MLflow or
scikit-learn.

    tables        results of cycles: status, leaderboard, why, champion
    text          the same as text, with `status_text`, `leaderboard_text` and the `lines` of both
    regret_table  past decisions, scored on the blocks after them
    past_text     what reproduce and backfill print
    data_tables   history and contract; imported by module, because it loads pyarrow
    data_text     the same as text
    start_text    what init and check --data found
    setup_tables  problem file, families, schedule
    mlflow_server  where the decisions are in MLflow, and how to serve it
    monitoring    what monitoring found
    backtest_text  a backtest; its plot is in figures/
    current       what is in effect now
    cycle_document  everything that a cycle's report shows; from decision_evidence, over_time, trials, what_to_do
    figures/, html  its pictures and its page; imported by module, because they load matplotlib
"""

from automl.report.backtest_text import backtest_text
from automl.report.current import finished, in_effect
from automl.report.cycle_document import cycle_report, newest_cycle
from automl.report.leaderboard_text import leaderboard_text
from automl.report.mlflow_server import MlflowPages, mlflow_pages
from automl.report.monitoring import late_text, monitor_text, monitoring_state
from automl.report.past_text import backfill_text, reproduction_text
from automl.report.regret_table import REGRET_COLUMNS, regrets
from automl.report.setup_tables import (
    automations_text,
    checked,
    deployments,
    families,
    schedule,
    schedule_text,
)
from automl.report.start_text import started_text
from automl.report.status_text import realised_text, status_text
from automl.report.tables import champion, leaderboard, result, status, why
from automl.report.text import (
    champion_text,
    checked_text,
    families_text,
    family_text,
    result_text,
    why_text,
)

__all__ = [
    "REGRET_COLUMNS",
    "MlflowPages",
    "automations_text",
    "backfill_text",
    "backtest_text",
    "champion",
    "champion_text",
    "checked",
    "checked_text",
    "cycle_report",
    "deployments",
    "families",
    "families_text",
    "family_text",
    "finished",
    "in_effect",
    "late_text",
    "leaderboard",
    "leaderboard_text",
    "mlflow_pages",
    "monitor_text",
    "monitoring_state",
    "newest_cycle",
    "realised_text",
    "regrets",
    "reproduction_text",
    "result",
    "result_text",
    "schedule",
    "schedule_text",
    "started_text",
    "status",
    "status_text",
    "why",
    "why_text",
]
