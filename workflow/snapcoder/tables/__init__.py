"""What every table of a study holds: one module per room, one declared schema per table."""
