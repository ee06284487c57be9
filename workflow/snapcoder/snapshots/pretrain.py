"""Pre-train a small GPT-NeoX and keep its weights at many steps; after a kill, go on to the very same result."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from snapcoder.study.snapshots import PretrainSettings

logger = logging.getLogger("snapcoder.pretrain")

_SECONDS_BETWEEN_LINES = 5.0


@dataclass
class TrainingState:
    """Everything that the rest of training depends on: weights, optimiser state, steps done, log so far."""

    model: GPTNeoXForCausalLM
    optimizer: torch.optim.AdamW
    step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


def model_config(
    settings: PretrainSettings, *, vocab_size: int, context_length: int, end_of_text: int
) -> GPTNeoXConfig:
    """Return Pythia's architecture at the size of the settings."""
    return GPTNeoXConfig(  # type: ignore[call-arg]
        vocab_size=vocab_size,
        hidden_size=settings.d_model,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        intermediate_size=4 * settings.d_model,
        max_position_embeddings=context_length,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        use_cache=False,
        architectures=["GPTNeoXForCausalLM"],
        attn_implementation="eager",  # sdpa is slower at this size on CPU
    )


def initial_state(settings: PretrainSettings, config: GPTNeoXConfig, *, device: torch.device) -> TrainingState:
    """Build the model from the seed, and its optimiser; weight decay acts on matrices only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = GPTNeoXForCausalLM(config).float().to(device)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2), eps=1e-8, fused=True)
    return TrainingState(model.train(), optimizer)


def learning_rate(step: int, settings: PretrainSettings) -> float:
    """Return the rate of update `step` (from 0): linear warm-up, then cosine decay to lr·lr_final."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    span = max(1, settings.steps - settings.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / span))
    return settings.lr * (settings.lr_final + (1 - settings.lr_final) * share)


def batch_sequences(step: int, n_sequences: int, settings: PretrainSettings) -> np.ndarray:
    """Return which sequences update `step` reads: a pure function of seed and step, one permutation per epoch."""
    places = np.arange(step * settings.batch_size, (step + 1) * settings.batch_size)
    chosen = np.empty(settings.batch_size, dtype=np.int64)
    for epoch in np.unique(places // n_sequences):
        here = places // n_sequences == epoch
        chosen[here] = _epoch_order(settings.seed, int(epoch), n_sequences)[places[here] % n_sequences]
    return chosen


@functools.lru_cache(maxsize=2)  # drawing it anew for every batch would cost more than the batch
def _epoch_order(seed: int, epoch: int, n_sequences: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_sequences)


def train(
    state: TrainingState,
    tokens: Tensor,
    settings: PretrainSettings,
    *,
    on_snapshot: Callable[[TrainingState], None],
    on_checkpoint: Callable[[TrainingState], None],
) -> None:
    """Train from `state.step` to the last step; tokens [sequence, position] int64 are the training sequences.

    `on_snapshot` is called at every step of `save_steps` (0 is before the first update), `on_checkpoint` every
    `checkpoint_every` steps, after the snapshot of the same step. Started from a restored state, training ends with the
    very same bits on a CPU with the same number of threads. Raises ValueError when the loss is no longer finite.
    """
    saves = set(settings.save_steps)
    if state.step == 0 and 0 in saves:
        on_snapshot(state)
    for update in _progress(state, settings, tokens.shape[1]):
        chosen = torch.from_numpy(batch_sequences(update, len(tokens), settings))
        _update(state, tokens[chosen], settings)
        if state.step in saves:
            on_snapshot(state)
        if state.step % settings.checkpoint_every == 0 and state.step < settings.steps:
            on_checkpoint(state)


def _update(state: TrainingState, batch: Tensor, settings: PretrainSettings) -> None:
    model, parameters = state.model, list(state.model.parameters())
    rate = learning_rate(state.step, settings)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
        hidden = model.gpt_neox(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden)
    loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip if settings.clip > 0 else math.inf)
    before = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    moved = torch.nn.utils.parameters_to_vector(parameters).detach().sub_(before).norm()
    state.step += 1
    if not math.isfinite(loss.item()):
        raise ValueError(f"training diverged: the loss of step {state.step} is not finite; lower pretrain.lr")
    state.log.append(
        {
            "step": state.step,
            "tokens": state.step * batch.numel(),
            "loss": loss.item(),
            "lr": rate,
            "grad_norm": float(norm),
            "param_step_norm": float(moved),
        }
    )


def _progress(state: TrainingState, settings: PretrainSettings, context_length: int) -> Iterator[int]:
    started, first, said = time.monotonic(), state.step, time.monotonic()
    for update in range(state.step, settings.steps):
        yield update
        now = time.monotonic()
        if now - said > _SECONDS_BETWEEN_LINES or update + 1 == settings.steps:
            said, done = now, update + 1 - first
            rate = done / (now - started)
            speed = rate * settings.batch_size * context_length
            left = (settings.steps - update - 1) / rate
            logger.info(
                "pre-training: step %d of %d, loss %.3f, %.1fk tokens/s, %.0f s left",
                update + 1, settings.steps, state.log[-1]["loss"], speed / 1000, left,
            )  # fmt: skip
