"""`python -m automl.cli` is `automl`."""

from automl.cli.entry import main

main()
