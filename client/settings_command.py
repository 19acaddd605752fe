"""``orthofed client settings``: every training setting as TOML that ``train --config`` takes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .command_line import Json

SETTINGS_EXAMPLE = "Example: orthofed client settings --preset sd15-person"


def settings(
    preset: Annotated[str | None, typer.Option(help="Show its values, not the defaults.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file to read on top.")] = None,
    as_json: Json = False,
) -> None:
    """Print every training setting as TOML that `train --config` takes, with its bounds."""
    from .presets import PRESETS
    from .training_settings import TrainingSettings

    values = TrainingSettings.read(config, preset=preset).as_dict()
    if as_json:
        print(json.dumps({"schema": "orthofed.settings/1", "presets": [*PRESETS], **values}))
        return
    print(f"# presets: {', '.join(PRESETS)}")
    for key, _default, allowed, says in TrainingSettings.described():
        print(f"{key} = {json.dumps(values[key]):<12}  # {says}; {allowed}")
