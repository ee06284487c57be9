from planted_tasks import dictionary, examples, model

__all__ = ["dictionary", "examples", "model"]
