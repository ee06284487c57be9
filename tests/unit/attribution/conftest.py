"""The planted problems of the tasks serve here too; `prompts` and `here` are of one snapshot."""

import pytest
from planted_tasks import dictionary, examples, model, task_prompts

from snapcoder.attribution.prompt_codes import of_snapshot

__all__ = ["dictionary", "examples", "model"]


@pytest.fixture
def prompts(model, dictionary, examples):
    return task_prompts(model, dictionary, examples)[1]


@pytest.fixture
def here(dictionary):
    return of_snapshot(dictionary, 8)
