"""pyproject, lock, conda environment and container recipe must speak of the same versions."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
REQUIREMENTS = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = [Requirement(text) for group in ("test", "lint") for text in PROJECT["optional-dependencies"][group]]
"""What CI installs; the harness, which few studies need, pulls in too much to be locked for all."""


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines):
    return {
        canonical(name): pin for name, pin in (line.split("==") for line in lines if "==" in line and line[0] != "#")
    }


LOCK = pins(Path("envs/requirements.lock").read_text().splitlines())


@pytest.mark.parametrize("requirement", REQUIREMENTS + EXTRAS, ids=lambda requirement: requirement.name)
def test_the_lock_pins_every_requirement_within_its_range(requirement):
    assert requirement.specifier.contains(LOCK[canonical(requirement.name)])


def test_the_conda_environment_has_the_locked_version_of_every_dependency():
    environment = yaml.safe_load(Path("envs/snapcoder.yaml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    wanted = {canonical(r.name): LOCK[canonical(r.name)] for r in REQUIREMENTS if r.name != "snakemake"}
    assert pins(pip) == wanted
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert PROJECT["requires-python"] == f">={python.removeprefix('python=')}"


def test_the_container_installs_from_the_lock_with_the_same_python():
    recipe = Path("envs/Containerfile").read_text()
    assert "--constraint envs/requirements.lock" in recipe
    assert f"python:{PROJECT['requires-python'].removeprefix('>=')}-slim" in recipe


def test_no_requirement_pins_a_cpu_build_of_torch():
    (torch,) = [requirement for requirement in REQUIREMENTS if requirement.name == "torch"]
    assert "==" not in str(torch.specifier)
    assert "+" not in LOCK["torch"]


@pytest.mark.parametrize("name", ["torch", "transformers", "h5py", "snakemake"])
def test_what_is_installed_here_is_what_the_lock_says(name):
    assert version(name).split("+")[0] == LOCK[name]
