"""Rows on their way from the source into a part: cast, shaped, named, hashed, quarantined, newest version kept."""
