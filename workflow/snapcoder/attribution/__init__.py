"""Which features carry an ability: attribution, checked by exact ablation."""
