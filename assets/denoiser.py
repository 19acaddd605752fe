"""Train the text encoder and the UNet together, from nothing, on latents in memory.

Epsilon loss with min-SNR weights (2303.09556, gamma 5), a tenth of the captions empty for
classifier-free guidance, rate and budget by the clock. Open Peeps, the concepts' class and style,
is the largest share: the base has to know both, or every concept learns the same shift (method.md
10). `denoiser.pt` holds all that it takes to go on.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# torch, diffusers and transformers publish partial types

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import vocabulary
from .precision import fast
from .schedule import Average, rate

BATCH: Final = 64
PEAK_RATE: Final = 1.2e-3
NUM_LEVELS: Final = 700
GAMMA: Final = 5.0
EMPTY_SHARE: Final = 0.1
NUM_HELD_OUT: Final = 512
SHARES: Final = {
    "openPeeps": 0.62, "adventurer": 0.06, "toonHead": 0.04, "bigSmile": 0.04,
    "noto": 0.08, "twemoji": 0.08, "fluent-emoji-flat": 0.08,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Networks:
    """The two networks that are trained together."""

    text: CLIPTextModel
    unet: UNet2DConditionModel


def scheduler() -> DDIMScheduler:
    """Return the noise schedule: the first NUM_LEVELS levels of the plain linear one of 1000.

    Beyond them the picture is gone (its share of the variance is .007 at the last one, .00004 at
    level 999), and DDIM divides its first error by the root of that share: with all 1000 levels a
    thousand steps of training gave flat colour where the same weights drew heads from level 700.
    """
    last = 1e-4 + (NUM_LEVELS - 1) * (0.02 - 1e-4) / 999
    return DDIMScheduler(
        num_train_timesteps=NUM_LEVELS, beta_schedule="linear", beta_start=1e-4, beta_end=last,
        prediction_type="epsilon", clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        timestep_spacing="trailing",
    )  # fmt: skip


def new(num_tokens: int) -> Networks:
    """Return untrained networks of the shipped shape; widths 96 and 128 hold 12 slots of rank 8."""
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=num_tokens, hidden_size=128, intermediate_size=512, projection_dim=128,
            num_hidden_layers=3, num_attention_heads=4, hidden_act="quick_gelu",
            max_position_embeddings=vocabulary.LENGTH, bos_token_id=num_tokens - 2,
            eos_token_id=num_tokens - 1, pad_token_id=num_tokens - 1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=16, out_channels=16, block_out_channels=(96, 128),
        layers_per_block=1, cross_attention_dim=128, norm_num_groups=16,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
    )  # fmt: skip
    return Networks(text, unet)


def tokenize(work: Path, captions: list[str]) -> torch.Tensor:
    """Return token ids of the captions and, as the last row, of the empty one."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    ids = tokenizer([*captions, ""], padding="max_length", max_length=vocabulary.LENGTH).input_ids
    return torch.tensor(ids)


def loss(
    nets: Networks, z: torch.Tensor, ids: torch.Tensor, t: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted loss and the plain mean square error of the predicted noise."""
    alpha = scheduler().alphas_cumprod.to(z.device)[t].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
    guess = nets.unet(noisy, t, nets.text(ids).last_hidden_state).sample.float()
    error = (guess - noise).square().mean((1, 2, 3))
    snr = (alpha / (1 - alpha)).flatten()
    return (error * (GAMMA / snr).clamp(max=1)).mean(), error.mean()


@torch.no_grad()
def held_out_loss(nets: Networks, z: torch.Tensor, ids: torch.Tensor, device: str) -> float:
    """Return the plain loss on the held-out pictures, one fixed noise and timestep each."""
    fixed = torch.Generator().manual_seed(7)
    noise = torch.randn(z.shape, generator=fixed).to(device)
    t = (torch.arange(len(z)) * NUM_LEVELS // len(z)).to(device)
    parts = [
        loss(nets, z[i : i + 64].to(device), ids[i : i + 64].to(device), t[i : i + 64],
             noise[i : i + 64])[1]
        for i in range(0, len(z), 64)
    ]  # fmt: skip
    return float(torch.stack(parts).mean())


def train(  # noqa: PLR0915  one loop and what it saves
    work: Path, latents: torch.Tensor, *, minutes: float, seed: int, device: str
) -> None:
    """Train until `minutes` in all are spent, from `denoiser.pt` where there is one."""
    known = json.loads((work / "pictures.json").read_text())
    ids = tokenize(work, known["captions"])
    torch.manual_seed(seed)
    nets = new(int(ids.max()) + 1)
    nets.text.to(device)
    nets.unet.to(device, memory_format=torch.channels_last)
    modules = [nets.text, nets.unet]
    params = [p for module in modules for p in module.parameters()]
    optimiser = torch.optim.AdamW(
        params, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
    )
    average, spent, steps = Average(modules, decay=0.999), 0.0, 0
    file = work / "denoiser.pt"
    if file.exists():
        kept = torch.load(file, weights_only=True, map_location=device)
        nets.text.load_state_dict(kept["text"])
        nets.unet.load_state_dict(kept["unet"])
        optimiser.load_state_dict(kept["optimiser"])
        average.values = kept["average"]
        spent, steps = kept["spent_s"], kept["steps"]
    rng = np.random.default_rng([seed, 3, steps])
    order = np.random.default_rng([seed, 4]).permutation(len(latents))
    held, used = order[:NUM_HELD_OUT], np.sort(order[NUM_HELD_OUT:])
    sources = np.array(known["sources"])[used]
    weight = np.array([SHARES[s] / np.sum(sources == s) for s in SHARES])
    table = dict(zip(SHARES, weight, strict=True))
    weights = np.array([table[s] for s in sources])
    cumulative = np.cumsum(weights / weights.sum())
    began, saved, logged = time.monotonic() - spent, time.monotonic(), []

    def save() -> None:
        state = {
            "text": nets.text.state_dict(), "unet": nets.unet.state_dict(),
            "optimiser": optimiser.state_dict(), "average": average.values,
            "spent_s": time.monotonic() - began, "steps": steps,
        }  # fmt: skip
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").replace(file)
        average.swap()
        for module in modules:
            module.eval()
        record = {
            "steps": steps, "batch": BATCH, "spent_s": round(time.monotonic() - began),
            "train_loss": float(np.mean([e for _, e in logged[-500:]])) if logged else None,
            "held_out_loss": held_out_loss(
                nets, latents[held].float(), ids[torch.from_numpy(held)], device
            ), "seed": seed, "device": device,
        }  # fmt: skip
        final = {"text": nets.text.state_dict(), "unet": nets.unet.state_dict()}
        torch.save(final, work / "average.tmp")
        (work / "average.tmp").replace(work / "average.pt")
        (work / "denoiser.json").write_text(json.dumps(record))
        average.swap()
        for module in modules:
            module.train()
        print("saved", record, flush=True)

    while (fraction := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate(fraction, peak=PEAK_RATE)
        picked = torch.from_numpy(used[np.searchsorted(cumulative, rng.random(BATCH))])
        z = latents[picked].float().to(device).contiguous(memory_format=torch.channels_last)
        words = torch.where(torch.rand(BATCH, 1) < EMPTY_SHARE, ids[-1], ids[picked]).to(device)
        t = torch.randint(0, NUM_LEVELS, (BATCH,), device=device)
        with fast(device):
            weighted, plain = loss(nets, z, words, t, torch.randn_like(z))
        optimiser.zero_grad(set_to_none=True)
        weighted.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        average.update()
        steps += 1
        logged.append((weighted.item(), plain.item()))
        if steps % 50 == 0:
            mean = np.mean(logged[-50:], axis=0)
            print(f"unet {steps} {fraction:.3f} {mean[0]:.4f} {mean[1]:.4f}", flush=True)
        if time.monotonic() - saved > 240 or steps == 150:  # noqa: PLR2004
            save()
            saved = time.monotonic()
    save()
