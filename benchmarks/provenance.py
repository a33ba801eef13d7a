"""Where a benchmark's document comes from: what was measured, when, at which commit, on how many cores."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["provenance"]


def provenance(name: str) -> dict[str, Any]:
    """The first keys of every kept document."""
    root = Path(__file__).parents[1]
    commit = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "benchmark": name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
    }
