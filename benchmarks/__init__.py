"""Where the numbers in the docs come from: `python -m benchmarks.NAME [--small] [--json]`."""
