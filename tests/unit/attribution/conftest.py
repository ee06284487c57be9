"""The planted problems of the tasks serve here too."""

from planted_tasks import dictionary, examples, model

__all__ = ["dictionary", "examples", "model"]
