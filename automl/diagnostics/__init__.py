"""Checks of a family file and of an installation, run from the command line.

    family        every requirement that a family file must meet
    bounded       the same in a process that may exit, crash or hang
    installation  versions, libraries, servers, and the workspace of a problem

Both are imported by module: the first loads Optuna and MLflow, the second neither.
"""
