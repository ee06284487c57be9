"""From curves to phases of training."""
