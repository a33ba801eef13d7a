"""The problem file as one frozen value.

All mistakes of a file are reported at once, each with its key, what was found, what was wanted, and a
suggestion for a typo. Nothing here opens a database, reads data or loads a family.
"""

from automl.problem.loading import load_problem, what_is_right
from automl.problem.operating import POLICIES, MonitoringSection, RetrainingSection
from automl.problem.places import family_folder, family_names
from automl.problem.section import did_you_mean, known_zone
from automl.problem.sections import HIGHER_IS_BETTER, LEAST_SHARE, METRICS, Problem
from automl.problem.slots import Slots
from automl.problem.spans import Span
from automl.problem.table_names import in_sql

__all__ = [
    "HIGHER_IS_BETTER",
    "LEAST_SHARE",
    "METRICS",
    "POLICIES",
    "MonitoringSection",
    "Problem",
    "RetrainingSection",
    "Slots",
    "Span",
    "did_you_mean",
    "family_folder",
    "family_names",
    "in_sql",
    "known_zone",
    "load_problem",
    "what_is_right",
]
