"""Families that ship with the product: one file each, loaded by name, never imported by `automl`."""
