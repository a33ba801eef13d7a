"""MLflow: runs, model files, trials, saved views; no other package imports it.

connection  MLflow's client: no request hangs, none fails with a library's error
registry  one problem's registered model: versions, digests, aliases
runs      one problem's experiment: a parent run per cycle
trials    a child run per trial
models    the files of a model
files     the models of a scratch workspace, without MLflow
user_models   models with users' code, in a process of their own
views     saved views of the runs page
first_page  MLflow's server as `automl ui` starts it; loaded by that process alone
"""

from automl.tracking.connection import Connection
from automl.tracking.files import FileRegistry, open_registry
from automl.tracking.models import Code, digest_folder, load_folder, save_folder
from automl.tracking.registry import Registered, Registry
from automl.tracking.runs import CycleRecord, cycle_tag
from automl.tracking.trials import TrialLog
from automl.tracking.user_models import closing_model, load_model
from automl.tracking.views import DECISIONS, LEADERBOARD, LIVE, LIVE_LOSS, PROMISED_LOSS, view_link

__all__ = [
    "DECISIONS",
    "LEADERBOARD",
    "LIVE",
    "LIVE_LOSS",
    "PROMISED_LOSS",
    "Code",
    "Connection",
    "CycleRecord",
    "FileRegistry",
    "Registered",
    "Registry",
    "TrialLog",
    "closing_model",
    "cycle_tag",
    "digest_folder",
    "load_folder",
    "load_model",
    "open_registry",
    "save_folder",
    "view_link",
]
