"""The Python API: a verb per command, and a first try of any table. Nothing here prints.

    project       a problem file opened; its verbs
    past          verbs about past cycles, of every project
    running       a run as commands and notebooks want it
    table         `try_table`: a scratch problem from a DataFrame
    start         `init`: a problem file from a file, a folder or a database table
    new_problem   writes that file, valid or not at all
    templates     worked examples to copy
    given         what callers know about a table instead of guesses
    predicting    live predictions; predictions of rows at hand
    settings      environment of a process that the engine runs in

Modules import libraries where they are first needed, so that opening a project is quick.
"""

from automl.api.project import Project, open_project
from automl.api.start import Started, init
from automl.api.table import Tryout, try_table

__all__ = ["Project", "Started", "Tryout", "init", "open_project", "try_table"]
