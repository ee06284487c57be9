from planted_tasks import dictionary, examples, model
from tasks_study import study

__all__ = ["dictionary", "examples", "model", "study"]
