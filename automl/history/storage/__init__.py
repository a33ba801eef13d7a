"""Parts and snapshots on disk: written aside, moved into place, addressed by content."""
