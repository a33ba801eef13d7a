"""Checks that a user runs: does a family file hold what it promises, does this installation work."""
