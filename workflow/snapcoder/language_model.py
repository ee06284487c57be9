"""Load a snapshot, find its blocks, read or replace the residual stream after one of them.

Works for decoders whose blocks live in one ModuleList of the length the configuration says (GPT-NeoX, Llama, GPT-2,
OLMo …). Block outputs may be a tensor or a tuple whose first item is the tensor: recent transformers return tensors, on
which `output[0]` would silently pick the first sequence of the batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from snapcoder.storage.json_file import read_json

transformers_logging.disable_progress_bar()  # one line per loaded file would drown our own progress


class _Reached(Exception):
    """Raised by the hook after the wanted block, so that the rest of the model does not run."""

    def __init__(self, activation: Tensor) -> None:
        self.activation = activation


def load(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a Hugging Face checkpoint from a local folder, in evaluation mode.

    Only safetensors are read, no code of the checkpoint runs. Raises ValueError in one line when it cannot be loaded,
    and when a weight is missing or has another shape (transformers would silently fill it with random numbers).
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder}: not a checkpoint that can be loaded ({reason}); write or fetch it again"
        ) from error
    model, report = loaded
    incomplete = sorted(str(name) for name in [*report["missing_keys"], *report["mismatched_keys"]])
    if incomplete:
        raise ValueError(
            f"{folder}: {len(incomplete)} weights are missing or have another shape, first {incomplete[0]}; "
            "save the whole language model with its output head"
        )
    return model.eval().requires_grad_(False)


def load_snapshot(facts: Path) -> PreTrainedModel:
    """Load the snapshot that a `snapshot.json` describes, onto a GPU if there is one; raises ValueError as `load` does."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = load(facts.parent / read_json(facts)["folder"])  # an absolute folder stands for itself
    moved: PreTrainedModel = model.to(device)
    return moved


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the model's decoder blocks: the one ModuleList with as many items as the configuration has layers.

    Lists inside another candidate (the experts of a block, say) do not count. Raises ValueError when it is not unique.
    """
    n_layers = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():  # outer modules come before the inner ones
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and not inside:
            found[name] = module
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__}: {len(found)} module lists of {n_layers} blocks; this architecture is not supported"
        )
    return next(iter(found.values()))


def block_output(output: Any) -> Tensor:
    """Return the hidden states of a block's output, which is a tensor or a tuple that starts with it."""
    hidden = output if isinstance(output, Tensor) else output[0]
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        raise ValueError(f"a block returned {type(output).__name__}; expected hidden states [batch, position, model]")
    return hidden


def capture(model: nn.Module, tokens: Tensor, *, layer: int, positions: Tensor | None = None) -> Tensor:
    """Return the residual stream after block `layer`, [batch, position, model] float32; later blocks do not run.

    tokens: [batch, position] int64; positions: the same, where they do not count from 0. Raises ValueError when the block
    does not exist or the shape is not as expected.
    """
    block = _block(model, layer)

    def stop(_module: nn.Module, _inputs: Any, output: Any) -> None:
        raise _Reached(block_output(output))

    handle = block.register_forward_hook(stop)
    told = {} if positions is None else {"position_ids": positions}
    try:
        model(input_ids=tokens, use_cache=False, **told)
    except _Reached as reached:
        activation = reached.activation
    else:
        raise ValueError(f"block {layer} of {type(model).__name__} did not run")
    finally:
        handle.remove()
    width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    if activation.shape != (*tokens.shape, width):
        raise ValueError(
            f"block {layer}: activations of shape {tuple(activation.shape)}, expected {(*tokens.shape, width)}"
        )
    return activation.float()


def run_from(model: nn.Module, activation: Tensor, *, tokens: Tensor, layer: int) -> Tensor:
    """Return the logits [batch, position, vocab] when the output of block `layer` is replaced by `activation`.

    Differentiable in `activation` [batch, position, model]; tokens: [batch, position] int64.
    """
    with _replaced(_block(model, layer), activation):
        return model(input_ids=tokens, use_cache=False).logits


@contextmanager
def _replaced(block: nn.Module, activation: Tensor) -> Iterator[None]:
    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = block_output(output)
        if hidden.shape != activation.shape:
            raise ValueError(
                f"activation of shape {tuple(activation.shape)} for a block output of {tuple(hidden.shape)}"
            )
        new = activation.to(hidden.dtype)
        return new if isinstance(output, Tensor) else (new, *output[1:])

    handle = block.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _block(model: nn.Module, layer: int) -> nn.Module:
    found = blocks(model)
    if not 0 <= layer < len(found):
        raise ValueError(f"block {layer} does not exist; {type(model).__name__} has blocks 0 to {len(found) - 1}")
    return found[layer]


def unembedding(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the unembedding matrix [vocab, model] and the weight of the final norm [model], or None when it has none."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    if head is None:
        raise ValueError(f"{type(model).__name__} has no output embedding")
    names = ("final_layer_norm", "norm", "ln_f", "final_layernorm")
    base = model.base_model
    norm = next((getattr(base, name) for name in names if isinstance(getattr(base, name, None), nn.Module)), None)
    return head.weight.detach(), getattr(norm, "weight", None)
