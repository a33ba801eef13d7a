"""MLflow: runs, model files, trials, saved views; no other package imports it."""

from automl.tracking.registry import Registered, Registry, cycle_tag

__all__ = ["Registered", "Registry", "cycle_tag"]
