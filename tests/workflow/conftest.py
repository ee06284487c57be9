"""A fresh copy of the workflow for every test that asks for one."""

import pytest
from tiny_workflow import copy_workflow


@pytest.fixture
def workflow(tmp_path):
    """A copy with nothing computed."""
    return copy_workflow(tmp_path)
