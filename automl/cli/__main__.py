"""`python -m automl.cli` is `automl`."""

from automl.cli.commands import main

main()
