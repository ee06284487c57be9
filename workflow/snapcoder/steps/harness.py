"""Step `harness`: one snapshot scored by lm-evaluation-harness, when a study names tasks for it."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from transformers import PreTrainedTokenizerFast

from snapcoder.job import Job
from snapcoder.language_model import load_snapshot
from snapcoder.storage.tables import joined, write_table
from snapcoder.study.evaluation import EvaluationSettings, HarnessSettings
from snapcoder.tables.downstream import HARNESS_PERFORMANCE
from snapcoder.tasks.harness import harness_rows


def harness(job: Job) -> None:
    """Write what the harness says of every task of `evaluation.harness` at one snapshot."""
    settings, step = job.section("evaluation", EvaluationSettings).harness, int(job.value("step"))
    lm_eval = _lm_eval()
    model = load_snapshot(job.path("facts"))
    # Snapshots have no tokenizer beside them: it is the study's.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(job.path("tokenizer")),
        eos_token=job.value("end_of_text"),
        pad_token=job.value("end_of_text"),
    )
    with _standard_output_to_error():
        wrapped = importlib.import_module("lm_eval.models.huggingface").HFLM(
            pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=settings.batch_size
        )
        results = lm_eval.simple_evaluate(model=wrapped, **_options(lm_eval, settings))
    if results is None:
        raise ValueError("lm-eval returned no results; run it in one process")
    rows = harness_rows(results, step=step, harness_version=str(lm_eval.__version__))
    write_table(job.output("table"), joined([rows], HARNESS_PERFORMANCE), HARNESS_PERFORMANCE, job.core)


def _lm_eval() -> ModuleType:
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars would drown our own lines
    try:
        return importlib.import_module("lm_eval")
    except ImportError as error:
        raise ValueError(
            f"evaluation.harness.tasks: needs the package lm-eval ({error}); pip install '.[lm-eval]', or empty the list"
        ) from error


def _options(lm_eval: Any, settings: HarnessSettings) -> dict[str, Any]:
    manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=settings.include_path)
    unknown = sorted(set(settings.tasks) - set(manager.all_tasks))
    if unknown:
        raise ValueError(
            f"evaluation.harness.tasks: lm-eval {lm_eval.__version__} knows no task {unknown[0]!r}; correct its name, or "
            "give the folder of your own task files as evaluation.harness.include_path"
        )
    seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    return {
        "tasks": list(settings.tasks),
        "task_manager": manager,
        "num_fewshot": settings.num_fewshot,
        "limit": settings.limit,
        "bootstrap_iters": 200,
        "log_samples": False,
        **dict.fromkeys(seeds, settings.seed),
    }


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield
