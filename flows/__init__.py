"""Thin Prefect flows over the pipelines, and their schedules; the only Prefect code.

Prefect is a trigger and a view. It holds no lock, decides nothing and stores no result.
"""
