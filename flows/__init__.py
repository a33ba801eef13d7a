"""Thin Prefect flows over the stories, and their schedules; the only Prefect code.

Prefect is a trigger and a view. It never holds the lock, decides nothing and stores no result.
"""
