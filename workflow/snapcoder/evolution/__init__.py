"""How features change over training."""
