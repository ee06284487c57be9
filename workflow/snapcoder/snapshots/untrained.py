"""A model as it is before any training: the architecture of a checkpoint with weights drawn anew."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel


def untrained_model(config: str | Path, *, seed: int) -> PreTrainedModel:
    """Return the model that a checkpoint's config.json describes, initialised by its own rules from `seed`, float32.

    No code of the checkpoint runs. Raises ValueError naming the file when the architecture is not known.
    """
    try:
        described = AutoConfig.from_pretrained(Path(config).parent, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{config}: not the configuration of a known architecture") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(described, dtype=torch.float32, attn_implementation="eager")
    return model.eval().requires_grad_(False)
