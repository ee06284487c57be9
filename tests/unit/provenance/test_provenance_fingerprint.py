import pytest

from snapcoder.provenance.fingerprint import import_closure, step_fingerprint


@pytest.fixture
def package(tmp_path):
    """A package with steps one (imports core.maths through core.model) and two (imports nothing of them)."""
    root = tmp_path / "toy"
    files = {
        "__init__.py": "",
        "steps/__init__.py": "",
        "steps/one.py": "from toy.core import model\n\ndef one(job):\n    return model.run(job)\n",
        "steps/two.py": "def two(job):\n    return 2\n",
        "core/__init__.py": "",
        "core/model.py": "from .maths import double\n\ndef run(x):\n    return double(x)\n",
        "core/maths.py": 'def double(x):\n    """Double."""\n    return 2 * x\n',
        "core/static/style.css": "body {}",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def prints(package):
    return step_fingerprint("one", package), step_fingerprint("two", package)


def rewrite(file, text):
    file.write_text(text)
    import os

    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))  # a fresh mtime even on coarse clocks


def test_the_closure_follows_relative_imports_and_packages(package):
    assert import_closure("toy.steps.one", package) == {
        "toy", "toy.steps", "toy.steps.one", "toy.core", "toy.core.model", "toy.core.maths",
    }  # fmt: skip


def test_comments_docstrings_and_formatting_do_not_count(package):
    before = prints(package)
    rewrite(
        package / "core/maths.py", 'def double(x):\n    """Twice."""\n    # why not\n    return (2\n            * x)\n'
    )
    assert prints(package) == before


def test_an_edit_two_imports_away_changes_exactly_the_steps_that_reach_it(package):
    one, two = prints(package)
    rewrite(package / "core/maths.py", "def double(x):\n    return 3 * x\n")
    assert prints(package)[0] != one
    assert prints(package)[1] == two


def test_templates_and_styles_count_for_the_steps_whose_package_holds_them(package):
    one, two = prints(package)
    (package / "core/static/style.css").write_text("body { color: red }")
    assert prints(package)[0] != one
    assert prints(package)[1] == two


def test_an_unknown_step_is_refused(package):
    with pytest.raises(ValueError, match="three: no such step"):
        step_fingerprint("three", package)


@pytest.mark.parametrize(
    "step, never",
    [
        ("figures", {"snapcoder.crosscoder.training", "snapcoder.language_model"}),
        # With activations.mode: stream it runs the snapshots itself, so the language model belongs to it.
        ("crosscoder", {"snapcoder.evolution.timing", "snapcoder.figures.style", "snapcoder.attribution.ablation"}),
        ("timing", {"snapcoder.crosscoder.training", "snapcoder.language_model", "snapcoder.figures.style"}),
        ("corpus", {"snapcoder.crosscoder.model", "snapcoder.language_model"}),
        ("report", {"snapcoder.crosscoder.training", "snapcoder.language_model"}),
    ],
)
def test_a_step_does_not_reach_code_of_other_stages(step, never):
    closure = import_closure(f"snapcoder.steps.{step}")
    assert not closure & never
    assert "snapcoder.tables.catalogue" not in closure or step in ("figures", "report")
