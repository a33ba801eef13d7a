"""The Python API: a verb per command, and a first try of any table. Nothing here prints.

    project       a problem file opened; its verbs
    past          verbs about past cycles, of every project
    running       a run as commands and notebooks want it
    table         `try_table`: a scratch problem from a DataFrame
    frames        a DataFrame of any make as a plain table
    guesses       what a problem file would say about a table, with reasons
    problem_text  guesses as a problem file
    predicting    live predictions; predictions of rows at hand
    settings      environment of a process that the engine runs in

Modules import libraries where they are first needed, so that opening a project is quick.
"""

from automl.api.project import Project, open_project
from automl.api.table import Tryout, try_table

__all__ = ["Project", "Tryout", "open_project", "try_table"]
