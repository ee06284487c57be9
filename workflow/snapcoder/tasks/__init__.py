"""Abilities, and which features carry them."""
