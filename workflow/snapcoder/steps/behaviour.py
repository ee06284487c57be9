"""Step `behaviour`: one snapshot's predictions on held-out text and its answers to all tasks."""

from collections.abc import Iterator

import numpy as np
import torch
from transformers import PreTrainedModel

from snapcoder.job import Job
from snapcoder.language_model import load
from snapcoder.phases.predictions import score_predictions
from snapcoder.storage.json_file import read_json
from snapcoder.storage.ngrams import read_ngrams
from snapcoder.storage.tables import write_table
from snapcoder.storage.task_examples import read_examples
from snapcoder.storage.tokens import HELDOUT, TokenTable, read_tokens
from snapcoder.study.analysis import BehaviourSettings
from snapcoder.tables.phases import BEHAVIOUR, BEHAVIOUR_DRAWS
from snapcoder.tables.tasks import TASK_EXAMPLES
from snapcoder.tasks.scoring import score_examples


def behaviour(job: Job) -> None:
    """Write the metrics of the snapshot's predictions, their bootstrap draws, and the scores of all task examples."""
    settings, step = job.section("behaviour", BehaviourSettings), int(job.value("step"))
    facts = job.path("facts")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(facts.parent / read_json(facts)["folder"]).to(device)  # type: ignore[arg-type]
    metrics, draws = score_predictions(
        _predictions(model, read_tokens(job.path("tokens")), settings),
        ngrams=read_ngrams(job.path("ngrams")),
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )
    write_table(job.output("table"), metrics.assign(step=step), BEHAVIOUR, job.core)
    write_table(job.output("draws"), draws.assign(step=step), BEHAVIOUR_DRAWS, job.core)
    scores = score_examples(model, read_examples(job.path("tasks")), step=step, batch_size=4 * settings.batch_size)
    write_table(job.output("tasks"), scores, TASK_EXAMPLES, job.core)


@torch.no_grad()
def _predictions(
    model: PreTrainedModel, table: TokenTable, settings: BehaviourSettings
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (log_probs [sequence, position, vocab], tokens, doc) of the same held-out sequences at every snapshot."""
    held_out = table.sequences(HELDOUT)
    rng = np.random.default_rng(settings.seed)
    chosen = np.sort(rng.choice(held_out, size=min(settings.sequences, len(held_out)), replace=False))
    for start in range(0, len(chosen), settings.batch_size):
        rows = chosen[start : start + settings.batch_size]
        tokens = table.tokens[rows].astype(np.int64)
        logits = model(torch.from_numpy(tokens).to(model.device), use_cache=False).logits.float()
        yield torch.log_softmax(logits, dim=-1).cpu().numpy(), tokens, table.doc[rows]
