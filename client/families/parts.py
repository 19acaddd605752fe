# pyright: basic
# diffusers and transformers publish partial types.
"""The parts of one pipeline folder, loaded on the CPU, frozen, in evaluation mode.

Only the classes that a family asks for are ever loaded, from safetensors and from this disk: what
model_index.json says is compared, never imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import nn

from ...core.errors import InputError, SpecError


@dataclass(frozen=True, slots=True)
class Parts:
    """A pipeline folder: ``index`` maps each part to its (library, class); nulls are left out."""

    folder: Path
    index: Mapping[str, tuple[str, str]]
    settings: Mapping[str, Any]
    dtype: torch.dtype = torch.float32  # in which networks are held

    @staticmethod
    def of(folder: Path, *, dtype: torch.dtype = torch.float32) -> "Parts":
        """Read the folder's model_index.json; networks will be held in ``dtype``.

        Raises InputError: there is none, or it names no parts.
        """
        try:
            said = json.loads((folder / "model_index.json").read_text("utf-8"))
        except (OSError, ValueError):
            said = None
        if not isinstance(said, dict) or "scheduler" not in said:
            raise InputError(
                f"{folder} is no diffusers pipeline: no model_index.json there names its parts",
                why="the base is loaded from such a folder",
                fix="give the folder that holds model_index.json, unet/, vae/ and text_encoder/;"
                " orthofed client fetch-base makes one of a single file or a hub id",
                code="not-a-pipeline",
            )
        pairs = {k: v for k, v in said.items() if isinstance(v, list) and len(v) == 2}  # noqa: PLR2004  # library, class
        index = {k: (str(v[0]), str(v[1])) for k, v in pairs.items() if v[0] and v[1]}
        return Parts(folder, index, {k: v for k, v in said.items() if k not in pairs}, dtype)

    def module(self, name: str, kind: Any, *, dtype: torch.dtype | None = None) -> Any:  # noqa: ANN401  # the library's own type
        """Return a network of exactly the class ``kind``, frozen, held in ``dtype``.

        None: in the pipeline's.

        Raises SpecError: the folder names another class. Raises InputError: it cannot be loaded.
        """
        named = self.index.get(name, ("", "nothing"))[1]
        if named != kind.__name__:
            raise SpecError(
                f"{name} in {self.folder} is {named}, {kind.__name__} is needed",
                why="only the parts of known families are loaded, and no code of others is run",
                fix="use a Stable Diffusion 1, 2 or XL base model",
                code="unknown-family",
            )
        module: nn.Module = self._load(
            name,
            kind,
            dtype=dtype or self.dtype,
            local_files_only=True,
            use_safetensors=True,
        )
        return module.requires_grad_(requires_grad=False).eval()

    def tokenizer(self, name: str, kind: Any) -> Any:  # noqa: ANN401  # as above
        """Return the tokenizer at ``name``."""
        return self._load(name, kind, local_files_only=True)

    def sampler(self) -> Any:  # noqa: ANN401  # as above
        """Return the scheduler that the folder names, one of diffusers' own.

        Raises SpecError: diffusers has no such class.
        """
        name = self.index.get("scheduler", ("", "nothing"))[1]
        kind = getattr(diffusers, name, None)
        if kind is None or not issubclass(kind, SchedulerMixin):
            raise SpecError(
                f"the scheduler {name[:80]!r} of {self.folder} is none of diffusers'",
                why="no code that a folder brings along is run",
                fix="name a scheduler of diffusers in model_index.json",
                code="unknown-scheduler",
            )
        return self._load("scheduler", kind)

    def _load(self, name: str, kind: Any, **options: object) -> Any:  # noqa: ANN401  # as above
        try:
            return kind.from_pretrained(self.folder / name, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder / name} cannot be loaded: {str(error).splitlines()[0]}",
                why="the base pipeline is not complete, or a file is damaged",
                fix="fetch the base model again",
                code="base-damaged",
            ) from error
