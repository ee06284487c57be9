"""Where training runs."""

import torch


def choose_device(device: str) -> torch.device:
    """Return the device of a setting: auto takes a GPU when there is one; a GPU that is asked for must be there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "crosscoder.device: cuda was asked for but this machine has no usable GPU; set it to auto or cpu"
        )
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
