# pyright: basic, reportPrivateImportUsage=false
# diffusers publishes partial types.
"""The Python that stands in a card, run as it stands, in a released folder beside its base."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from .serving import Running, founded, running
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

pytestmark = [
    pytest.mark.filterwarnings(  # peft asks for it while it wraps a text encoder
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
    ),
    pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
FAMILIES = {"sd1": tiny_base, "sd2": tiny_sd2, "xl": tiny_sdxl}
SNIPPET = re.compile(r"^```python\n(.+?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = "a photo of anna-k7"


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=list(FAMILIES))
def filled(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Running]:
    """Two concepts, one of several vectors, released at 0.6 on a base called `tiny`."""
    with running(founded(tmp_path_factory.mktemp("card"), make=request.param)) as coordinator:
        for seed, (name, vectors) in enumerate([("anna", 2), ("rex", 1)]):
            member = coordinator.member()
            lease = member.lease(name, (f"{name}-k7",), vectors=(vectors,))
            member.contribute(member.pack(lease, seed=seed, size=0.05))
        coordinator.release(614)
        yield coordinator


@pytest.fixture(scope="module")
def drawn(filled: Running, tmp_path_factory: Any) -> list[dict[str, Any]]:
    """Return what each snippet of the card leaves behind, in order; the last one draws nothing."""
    place = tmp_path_factory.mktemp("consumer") / "release"
    shutil.copytree(filled.folder.releases / "1", place)
    (place / "tiny").symlink_to(filled.folder.settings().base)
    snippets = SNIPPET.findall((place / "card.md").read_text())
    left: list[dict[str, Any]] = []
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("HF_HUB_OFFLINE", "1")
        for text in snippets:
            left.append({})
            exec(compile(text, "card.md", "exec"), left[-1])  # noqa: S102  # what a reader pastes
    return left


def test_each_snippet_runs_as_it_stands(drawn: list[dict[str, Any]]) -> None:
    """The whole model, the LoRA on the base, PEFT."""
    assert [("image" in each, "PeftModel" in each) for each in drawn] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def answer(pipeline: Any) -> torch.Tensor:
    """Return one step's latents for the trigger; many steps would enlarge roundings."""
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(7)
    return pipeline(PROMPT, num_inference_steps=1, generator=noise, output_type="latent").images


def test_the_whole_model_and_the_lora_on_the_base_answer_alike(
    filled: Running, drawn: list[dict[str, Any]]
) -> None:
    """Equal noise: a hundredth apart at most of what parts both from the base alone."""
    base = answer(DiffusionPipeline.from_pretrained(filled.folder.settings().base))

    whole, lora = (answer(each["pipeline"]) for each in drawn[:2])

    assert (whole - lora).abs().max() <= 0.01 * (whole - base).abs().max()


def test_peft_leaves_the_weights_of_the_whole_model(drawn: list[dict[str, Any]]) -> None:
    """Each adapted network, merged: F16 rounding of the LoRA apart."""
    whole, peft = drawn[0]["pipeline"], drawn[2]["pipeline"]
    for name in drawn[2]["name"], "unet":
        ours, theirs = (getattr(each, name).state_dict() for each in (whole, peft))
        for key in ours:
            if "token_embedding" not in key:
                torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=1e-4)
