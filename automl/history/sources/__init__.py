"""Where rows come from: databases, parquet and CSV files, Python callables. A source is only read."""

from __future__ import annotations

from automl.history.sources.base import Since, Source
from automl.history.sources.opening import open_source

__all__ = ["Since", "Source", "open_source"]
