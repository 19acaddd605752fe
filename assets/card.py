"""Write the model card of pocket-base from what the stages recorded: no figure is typed by hand."""

# ruff: noqa: E501, S101 -- the text of a page; a failed assert is a bug of the builder

import json
from collections import Counter
from pathlib import Path
from typing import Final

from .denoiser import PEAK_RATE, SHARES
from .export import PROMPTS, WEIGHTS

CREDITS: Final = (
    ("openPeeps", "Open Peeps by Pablo Stanley, by way of @dicebear/collection 9.4.3", "CC0 1.0"),
    ("adventurer", "Adventurer by Lisa Wischofsky, by way of @dicebear/collection 9.4.3", "CC BY 4.0"),
    ("toonHead", "ToonHead by Johan Melin, by way of @dicebear/collection 9.4.3", "CC BY 4.0"),
    ("bigSmile", "Custom Avatar (Big Smile) by Ashley Seo, by way of @dicebear/collection 9.4.3", "CC BY 4.0"),
    ("noto", "Noto Emoji by Google, by way of @iconify-json/noto 1.2.9", "Apache-2.0"),
    ("twemoji", "Twemoji by Twitter and contributors, by way of @iconify-json/twemoji 1.2.5", "CC BY 4.0"),
    ("fluent-emoji-flat", "Fluent Emoji by Microsoft, by way of @iconify-json/fluent-emoji-flat 1.2.6", "MIT"),
)  # fmt: skip

TEXT: Final = """\
# pocket-base

A text-to-image pipeline small enough to ship: drawings of 64 x 64 pixels, {num_weights} weights, {megabytes:.1f} MB in
float16. It exists so that OrthoFed can be tried and tested without a download and without a GPU. It was
shown one class often, a drawn person, and some 250 emoji now and then. It is no model for pictures that anyone needs.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("assets/pocket-base")
prompt = "a peeps drawing of a person, smiling, glasses, curly red hair, green shirt"
pipe(prompt, guidance_scale=4, num_inference_steps=30)
```

![Samples](samples.png)

Two samples a prompt from the shipped weights, guidance 4, 30 DDIM steps, seeds 0 to {last_seed}, nothing chosen by hand:

{prompts}

## Parts
| part | shape |
| --- | --- |
| VAE | 64 x 64 x 3 to 8 x 8 x 16, levels 16/32/64/64, {vae} weights |
| text encoder | CLIPTextModel, 3 layers of 128, 4 heads, 40 tokens, {text} weights |
| UNet | levels 96/128 with cross attention at both and in the middle, {unet} weights |
| scheduler | DDIM, the first 700 of 1000 linear levels, epsilon, trailing spacing |

## Data
{num_pictures} pictures drawn from vector art with exact captions, slightly moved, turned and scaled.

| share of training | pictures | art | licence |
| --- | --- | --- | --- |
{data}

The art was rendered, recoloured (avatars) and placed on plain grounds. The twelve identities of
`../pocket-concepts` (head, skin and hair colour together) are not in it; `build_base.py` asserts that.

## Training
| | autoencoder | UNet and text encoder |
| --- | --- | --- |
| steps x batch | {vae_steps} x {vae_batch} | {steps} x {batch} |
| wall time | {vae_minutes:.0f} min | {minutes:.0f} min |
| seed | {vae_seed} | {seed} |
| peak rate | 2e-3 | {peak} |
| loss | L1 {l1:.4f}, MSE {mse:.4f}, edges {edge:.4f} (pixels -1 to 1, last 200 steps) | epsilon MSE {train_loss} in training, {held_out:.4f} on 512 held-out pictures (averaged weights) |

Hardware: two CPU cores of an Intel Xeon with AMX (bfloat16 passes), one of them for the networks, no GPU; 2026-11.
Rebuild: `python assets/build_base.py --work DIR`; continue: the same with the old DIR and a larger `--minutes`.

## Limits
- 64 x 64, plain grounds, one subject in the middle. Prompts outside the captions' words give noise or a person.
- A drawn person follows the prompt in hair, skin, beard, glasses, shirt and ground; expressions often, small ones seldom. "a person" without
  a style may come in any of the four styles. Common emoji (an apple, a heart, a car, a smiley) are recognisable, detailed ones are
  not: the penguin has no face and the soccer ball no seams.
- Trained for {minutes:.0f} minutes on one CPU core: eyes and mouths are often smudged, and in the three rarer avatar styles faces are.
- It learnt from four cartoon styles: a word such as "angry" means what their artists drew, and nothing about people.
- Words it never saw are split into pieces that mean nothing to it.
"""


def _table(captions: list[str], sources: list[str]) -> str:
    """Return the rows of the data table."""
    counts = Counter(sources)
    assert len(captions) == len(sources)
    return "\n".join(
        f"| {SHARES[name]:.0%} | {counts[name]:,} | {art} | {licence} |"
        for name, art, licence in CREDITS
    )


def _num_weights(file: Path) -> int:
    """Return the number of weights in a safetensors file, from its header."""
    blob = file.read_bytes()
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return max(ends) // 2


def write(work: Path, folder: Path) -> None:
    """Write the folder's README.md."""
    vae = json.loads((work / "vae.json").read_text())
    nets = json.loads((work / "denoiser.json").read_text())
    known = json.loads((work / "pictures.json").read_text())
    numbers = {part: _num_weights(folder / part / name) for part, name in WEIGHTS.items()}
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    trained = nets["train_loss"]
    text = TEXT.format(
        num_weights=f"{sum(numbers.values()) / 1e6:.1f} million", megabytes=size / 1e6,
        last_seed=2 * len(PROMPTS) - 1, prompts="\n".join(f"{i}. {p}" for i, p in enumerate(PROMPTS, 1)),
        vae=f"{numbers['vae']:,}", text=f"{numbers['text_encoder']:,}", unet=f"{numbers['unet']:,}",
        num_pictures=f"{len(known['captions']):,}", data=_table(known["captions"], known["sources"]),
        vae_steps=vae["steps"], vae_batch=vae["batch"], vae_minutes=vae["minutes"], vae_seed=vae["seed"],
        l1=vae["l1"], mse=vae["mse"], edge=vae["edge"], steps=nets["steps"], batch=nets["batch"],
        minutes=nets["spent_s"] / 60, seed=nets["seed"], peak=f"{PEAK_RATE:g}",
        train_loss="not recorded" if trained is None else f"{trained:.4f}",
        held_out=nets["held_out_loss"],
    )  # fmt: skip
    (folder / "README.md").write_text(text)
