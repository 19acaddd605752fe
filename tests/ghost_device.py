"""A device that nobody has: torch's `meta` tensors, held to the rules of a GPU.

Inside `GhostDevice()` real code runs on a base that is held on ``meta``. Its tensors have shapes
and types but no values, and the mode refuses what a GPU would refuse or pay for:

    mixed    tensors of both devices in one operation: a forgotten `.to(device)`
    read     a value looked at on the way (`.item()`, `bool()`): the CPU waits for the GPU

A copy to the CPU, which is allowed, gives zeros and is counted. torch's FakeTensorMode is laxer: it
lets a CPU tensor be added in place, be an index and be an embedding's ids. Not here: the samplers
of diffusers, which look at values.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from orthofed.client.placement import Placement

GHOST = Placement(torch.device("meta"))
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
_READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


class GhostDevice(TorchDispatchMode):
    """Runs what is inside on ``meta`` as if it were a GPU; ``reads`` counts copies back."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.operations = 0  # on the device
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Let torch take ``meta`` where it keeps a list of devices."""
        is_enabled, kinds = (
            torch.is_autocast_enabled,
            _foreach_utils._get_fused_kernels_supported_devices,
        )

        def enabled(kind: str = "cuda") -> bool:
            return kind != "meta" and is_enabled(kind)

        self._patches.enter_context(mock.patch.object(torch, "is_autocast_enabled", enabled))
        self._patches.enter_context(
            mock.patch.object(
                importlib.import_module("torch.optim.optimizer"),
                "_get_fused_kernels_supported_devices",
                return_value=[*kinds(), "meta"],
            )
        )
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        """Leave torch as it was."""
        super().__exit__(*exc)  # pyright: ignore[reportArgumentType]  # torch types three
        self._patches.close()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry out one operation, or say what a GPU would say."""
        tensors = list(_tensors((args, kwargs)))
        on_ghost = [one for one in tensors if one.is_meta]
        if not on_ghost:
            return func(*args, **kwargs or {})
        self.operations += 1
        if func in _READS:
            raise AssertionError(f"{func} reads a value and waits for the GPU")
        # A number without dimensions may come from the CPU, on a GPU too.
        strangers = [one for one in tensors if not one.is_meta and one.dim()]
        if strangers and func not in _COPIES:
            raise AssertionError(f"{func} mixes CPU and GPU: {[one.shape for one in tensors]}")
        if func in _COPIES and _goes_home(func, args, kwargs or {}):
            self.reads += 1
            like = args[0] if func is torch.ops.aten._to_copy.default else args[1]
            dtype = (kwargs or {}).get("dtype") or like.dtype
            zeros = torch.zeros(like.shape, dtype=dtype)
            return zeros if func is torch.ops.aten._to_copy.default else args[0].copy_(zeros)
        return func(*args, **kwargs or {})


def _tensors(tree: object) -> Iterator[Tensor]:
    leaves, _ = tree_flatten(tree)
    return (leaf for leaf in leaves if isinstance(leaf, Tensor))


def _goes_home(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if func is torch.ops.aten.copy_.default:
        return not args[0].is_meta
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == "cpu"
