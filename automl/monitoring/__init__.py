"""How released models do once their labels are known."""
