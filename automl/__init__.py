"""An AutoML that keeps itself trained: pull, search, log, promote, predict, and do it again.

    import automl
    project = automl.open_project("problem.toml")
    project.cycle()

Importing this package loads no library; names load when they are first used. Where things are:

Two conductors, each the steps of one pipeline on one page
    retrain/        pull -> check -> policy -> plan -> search -> decide -> refit -> guard -> release (`pipeline`); the
                    note that MLflow shows of a cycle (`cycle_note`)
    score/          batch -> predict -> audit -> publish (`pipeline`)
    review.py       rollback, approve, reject
    backfill.py     missed cycles of a window, run for real
    reproduction/   a past cycle rebuilt from its snapshot and compared

What a cycle does, in its order
    history/        pull: new and changed rows (`pull`, `increments`), late and deleted rows (`audit`), one
                    version per key (`rows/versions`), the data `contract`, frozen snapshots (`storage`), the
                    rows to predict (`batch`)
    sweep/          search: Optuna proposes recipes (`proposals`), trials are scheduled (`search`), their
                    fits run in workers (modeling/training, processes/children); the best are
                    blended and weighted (`blending`, modeling/ensemble); the `leaderboard`
    tracking/       log: MLflow `runs`, model versions, `trials`, saved `views`; the only door to mlflow
    promotion/      promote: `evidence`, the rule that decides (`decide`), `guards`, the `release` transaction
    predictions/    predict: prediction frames (`predict`; intervals would fill its columns low and high,
                    empty today), `staging`, `audit`, the `pointer` that readers follow

What they are made of
    modeling/       families, recipes, metrics, blocks in time (`splits`), training
    processes/      worker processes and what ends with them; calls of users' code
    engines/        where independent items of work run; processes of this machine (`local`)
    problem/        the problem file as one value; cron slots (`slots`), durations (`spans`)
    cycles/         options, job and result of a run; missed slots
    store/          the database: cycles, decisions, releases, ledger, migrations
    workspace.py    folders and settings        errors.py    every error, as one tree
    testing.py      fault points for tests      files.py         files replaced as a whole
    disk.py         errors of the disk          addresses.py     URLs with references and passwords
    redaction.py    secrets hidden in texts     progress.py      how far long work has come

Around them
    api/            this surface: a project and its verbs, `init`, `try_table`
    guessing/       what a problem file would say about a table, with reasons
    templates/      worked examples that `automl init --template` copies
    monitoring/     performance of earlier predictions, drift, alerts, schedules that have stopped
    backtest/       past cycles replayed under several retraining policies: `run`, `replay`, `compare`
    explanation/    what predictions are worth and what drives them: curves, slices, importance
    report/         documents, text and tables that commands show; pictures (`figures/`) and page (`html`) of a cycle
    diagnostics/    the check of a family (`family`), the check of an installation
    cli/            commands

Outside the package: `search_spaces/` (one family per file), `flows/` (Prefect).
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AutomlError",
    "BusyError",
    "ContractError",
    "DigestError",
    "Family",
    "HistoryError",
    "NoModelError",
    "Params",
    "PredictError",
    "ProblemError",
    "Project",
    "Recipe",
    "Shape",
    "SpaceError",
    "Suggests",
    "UnreachableError",
    "__version__",
    "init",
    "load_problem",
    "open_project",
    "try_table",
]

if TYPE_CHECKING:
    from automl.api import Project, init, open_project, try_table
    from automl.errors import (
        AutomlError,
        BusyError,
        ContractError,
        DigestError,
        HistoryError,
        NoModelError,
        PredictError,
        ProblemError,
        SpaceError,
        UnreachableError,
    )
    from automl.modeling.families import Family, Shape, Suggests
    from automl.modeling.recipes import Params, Recipe
    from automl.problem import load_problem

_HOME = {
    "Project": "automl.api",
    "Family": "automl.modeling.families",
    "Params": "automl.modeling.recipes",
    "Recipe": "automl.modeling.recipes",
    "Shape": "automl.modeling.families",
    "Suggests": "automl.modeling.families",
    "init": "automl.api",
    "load_problem": "automl.problem",
    "open_project": "automl.api",
    "try_table": "automl.api",
}  # of the other exports: automl.errors

if not TYPE_CHECKING:  # a type checker that saw it would accept every name

    def __getattr__(name: str) -> object:
        """Import an exported name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module 'automl' has no attribute {name!r}")
        value = getattr(import_module(_HOME.get(name, "automl.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
