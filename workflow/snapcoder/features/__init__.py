"""What a feature is about."""
