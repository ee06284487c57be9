"""Watch the concepts of a language model form during pre-training."""

__version__ = "0.1.0"
