"""Where every file comes from, and whether it is still that file."""
