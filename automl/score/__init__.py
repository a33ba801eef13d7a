"""A scoring: `pipeline` tells its steps on one page."""
