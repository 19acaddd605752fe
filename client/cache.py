"""Tensors that are made once before a training and read in every step of it.

`Cache` is the seam: in memory (`MemoryCache`), or in files that outlive the process
(disk_cache.py). Laws: a key is the digest of everything that decides the bits (`key_of`), so what
is found under it is what would be made; rows come in chunks and are never held twice. Which cache
is used changes no bit of what is trained.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

Chunks = Callable[[], Iterator[Mapping[str, Tensor]]]
"""Makes some named tensors, some rows of each at a time, the same number of each."""


class Cache(Protocol):
    """Where tensors are kept between their making and the last step."""

    def rows(self, key: str, count: int, chunks: Chunks) -> dict[str, Tensor]:
        """Return ``count`` rows of each tensor that ``chunks`` makes, or made under this key."""
        ...


class MemoryCache:
    """Keeps nothing beyond the process; ``rows`` makes what it is asked for."""

    def rows(self, key: str, count: int, chunks: Chunks) -> dict[str, Tensor]:  # noqa: ARG002  # the seam's
        """Return what ``chunks`` makes."""
        whole: dict[str, Tensor] = {}
        start = 0
        for chunk in chunks():
            for name, part in chunk.items():
                if name not in whole:
                    whole[name] = torch.empty(count, *part.shape[1:], dtype=part.dtype)
                whole[name][start : start + len(part)] = part
            start += len(next(iter(chunk.values())))
        return whole


def key_of(kind: str, *parts: object) -> str:
    """Return the key of a thing that ``parts`` decide: JSON values; torch's version is one more.

    >>> len(key_of("latents", "base", [1, 2]))
    64
    """
    told = json.dumps([kind, torch.__version__, *parts], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
