# pyright: basic
# wandb is an extra, and its types are its own.
"""Weights & Biases, only for an owner who asks for it with `wandb = true`.

This is the one thing in the client that sends something to a third party: the settings, and loss
and rate of each step, under the concept's name; its library adds its version, Python's and the
platform. No image, prompt, caption or path, no console output, code, git state, host name or
machine figures. A resumed training goes on in the same run; steps that are there already stay. With
WANDB_MODE=offline nothing leaves this machine.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..core.errors import InputError

SENT: Final = "the settings, and loss and rate of each step, go to Weights & Biases, as you asked"
"""What an owner is told before the first step."""

_PRIVATE: Final = frozenset({"sample_prompts", "templates", "prior_folder"})
"""Settings in the owner's own words."""


class WandbRun:
    """One run in the project `orthofed`."""

    def __init__(
        self,
        folder: Path,
        identity: str,
        settings: Mapping[str, object],
        facts: Mapping[str, str],
    ) -> None:
        """Begin or go on, with its files in ``folder``; the run's id is the training's identity.

        Raises InputError: the package is not installed.
        """
        check_wandb()
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(
            project="orthofed",
            dir=folder,
            id=identity[:32],
            name=facts["concept"],
            resume="allow",
            config={k: v for k, v in settings.items() if k not in _PRIVATE},
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                host="home",
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
                silent=True,
            ),
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send ``values`` of one step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send the rest and end the run."""
        self._run.finish()


def check_wandb() -> None:
    """Check that the package is there, before anything is leased for it.

    Raises InputError: it is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise InputError(
            "wandb = true, and the package wandb is not installed",
            why="it is an extra: nobody needs an account to train",
            fix='run pip install "orthofed[wandb]", or set wandb = false',
            code="wandb-not-installed",
        )
