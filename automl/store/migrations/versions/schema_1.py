"""The first schema."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing comes before it."""
