"""What no operation of a GPU's update may do."""

from torch.utils._python_dispatch import TorchDispatchMode


class WithoutReading(TorchDispatchMode):
    """Refuses every operation whose result, or its shape, the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "bincount", "is_nonzero")
        assert not any(name in func.__name__ for name in waits), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))
