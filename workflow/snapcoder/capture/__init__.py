"""From token tables to activation rows that are aligned over all snapshots."""
