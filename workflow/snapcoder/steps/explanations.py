"""Step `explanations`: what a language model says that a sample of features detects. Opt-in; needs the network."""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from snapcoder.chat_service import ChatError, ChatService
from snapcoder.features.explaining import (
    Case,
    balanced_accuracy,
    detect_messages,
    explain_messages,
    make_case,
    read_detection,
    read_judgement,
    sampled_features,
    silent_contexts,
)
from snapcoder.features.token_text import token_strings
from snapcoder.job import Job
from snapcoder.storage.answers import cached_answer, keep_answer, request_hash
from snapcoder.storage.code_columns import iterate_columns
from snapcoder.storage.codes import read_code_rows
from snapcoder.storage.tables import read_table, write_table
from snapcoder.storage.tokens import read_tokens
from snapcoder.study.explain import ExplainSettings, explain_problems
from snapcoder.tables.features import FEATURE_EXPLANATIONS

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
BYTES_PER_ENTRY = 16  # of a chunk of codes


def explanations(job: Job) -> None:
    """Write tables/block{layer}/feature_explanations.parquet; answers are kept in explanations/cache beside `tables`."""
    settings = job.section("explain", ExplainSettings)
    if not settings.endpoint:
        raise ValueError("explain.endpoint: empty; name an OpenAI-compatible service to have features explained")
    for problem in explain_problems(settings):
        raise ValueError(problem)
    service = ChatService(settings.endpoint, _key(settings.api_key_env), settings.timeout, settings.retries)
    cache = job.output("table").parents[2] / "explanations" / "cache"

    def ask(messages: list[dict[str, str]], read: Callable[[str], Answer]) -> tuple[Answer, str]:
        request = {
            "model": settings.model,
            "messages": messages,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
        }
        return _answer(service, request, cache, read), request_hash(request)

    def explain(case: Case) -> dict[str, Any]:
        return _row(case, ask, model=settings.model)

    cases = _cases(job, settings)
    with ThreadPoolExecutor(settings.parallel) as pool:
        rows = list(pool.map(explain, cases))
    failed = [row["reason"] for row in rows if row["status"] == "failed"]
    logger.info("explanations: %d of %d features explained", len(rows) - len(failed), len(rows))
    if rows and len(failed) == len(rows):
        raise ValueError(f"explain.endpoint: no feature was explained; first reason: {failed[0]}")
    names = [column.name for column in FEATURE_EXPLANATIONS.columns]
    table = pd.DataFrame(rows, columns=[name for name in names if name != "layer"]).assign(layer=job.value("layer"))
    write_table(job.output("table"), table, FEATURE_EXPLANATIONS, job.core)


def _key(variable: str) -> str:
    if variable and not os.environ.get(variable):
        raise ValueError(
            f"explain.api_key_env: the environment variable {variable} is not set; set it to the service's key"
        )
    return os.environ[variable] if variable else ""


def _cases(job: Job, settings: ExplainSettings) -> list[Case]:
    rng = np.random.default_rng(settings.seed)
    examples, tokens = read_table(job.path("examples")), read_tokens(job.path("tokens"))
    timing = read_table(job.path("timing"), columns=["feature", "class", "onset_hi"])
    features = sampled_features(timing, examples, most=settings.features, rng=rng)
    silent = silent_contexts(
        iterate_columns(job.path("codes"), memory_gb=1.0, bytes_per_entry=BYTES_PER_ENTRY),
        features,
        read_code_rows(job.path("codes")),
        tokens,
        token_strings(job.path("tokenizer"), vocab_size=tokens.vocab_size),
        count=settings.silent + settings.held_out,
        rng=rng,
    )
    of_feature = dict(list(examples[examples["feature"].isin(features)].groupby("feature")))
    shown = {"top": settings.top, "quantile": settings.quantile, "held_out": settings.held_out}
    return [make_case(feature, of_feature[feature], silent[feature], **shown, rng=rng) for feature in features]


def _answer(service: ChatService, request: Mapping[str, Any], cache: Path, read: Callable[[str], Answer]) -> Answer:
    """Return the answer to a request, from the cache or the service; only answers that can be read are kept."""
    kept = cached_answer(cache, request)
    if kept is not None:
        with suppress(ValueError):  # kept under other rules of reading, or altered: asked again
            return read(kept)

    def read_and_keep(text: str) -> Answer:
        understood = read(text)
        keep_answer(cache, request, text)
        return understood

    return service.ask(request, read_and_keep)


def _row(case: Case, ask: Callable[..., tuple[Any, str]], *, model: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "feature": case.feature, "explanation": "", "complexity_llm": None, "consistency_llm": None, "detection_score": np.nan,
        "llm_name": model, "prompt_hash": "", "n_examples": len(case.shown), "n_held_out": len(case.held_out),
        "status": "failed", "reason": "",
    }  # fmt: skip
    try:
        said, row["prompt_hash"] = ask(explain_messages(case), read_judgement)
        row |= {
            "explanation": said.explanation, "complexity_llm": said.complexity, "consistency_llm": said.consistency,
            "status": "explained",
        }  # fmt: skip
        if case.held_out:
            told, _ = ask(
                detect_messages(case, said.explanation), lambda text: read_detection(text, n=len(case.held_out))
            )
            row["detection_score"] = balanced_accuracy(told, case.active)
    except ChatError as error:
        row["reason"] = str(error) if row["status"] == "failed" else f"detection: {error}"
    return row
