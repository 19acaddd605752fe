"""Train the autoencoder: 64 x 64 pixels to 8 x 8 latents of 16 channels, and encode the pictures.

Loss: L1 + MSE + L1 of the image's differences (line art lives on its edges) + a small pull of the
latents to zero. The posterior's spread is fixed at e^-2.5: a learnt one, with a KL term,
collapsed to the prior within fifty steps. The narrow first level is for the clock: full
resolution costs most.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# torch and diffusers publish partial types

import json
import math
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from .precision import fast
from .schedule import Average, rate

BATCH: Final = 16
PEAK_RATE: Final = 2e-3
PULL_WEIGHT: Final = 1e-4
EDGE_WEIGHT: Final = 1.0
LOGVAR: Final = -5.0


def new() -> AutoencoderKL:
    """Return an untrained autoencoder of the shipped shape."""
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, sample_size=64, latent_channels=16,
        block_out_channels=(16, 32, 64, 64), layers_per_block=1, norm_num_groups=2,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    _start_linear(vae)
    with torch.no_grad():
        vae.quant_conv.weight[16:] = 0
        vae.quant_conv.bias[16:] = LOGVAR
    return vae


def _start_linear(vae: AutoencoderKL) -> None:
    """Let the picture through from the start: no biases, orthogonal kernels, silent branches.

    With torch's default start the biases drown the picture behind 20 layers and group norms, and
    the loss stays at that of a constant colour for hundreds of steps.
    """
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)
            if name.endswith(".conv2"):
                nn.init.zeros_(module.weight)
            else:
                nn.init.orthogonal_(module.weight)


def edges(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error of horizontal and vertical differences."""
    error = x - y
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def train(work: Path, *, minutes: float, seed: int, device: str) -> AutoencoderKL:
    """Return the trained autoencoder, its averaged weights in `vae.pt`; read from there if done."""
    torch.manual_seed(seed)
    vae, file = new(), work / "vae.pt"
    if file.exists():
        vae.load_state_dict(torch.load(file, weights_only=True))
        return vae.eval()
    vae.to(device, memory_format=torch.channels_last)
    pixels = np.load(work / "pictures.npy")
    rng = np.random.default_rng([seed, 2])
    optimiser = torch.optim.AdamW(
        vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    average = Average([vae], decay=0.998)

    def losses(x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = vae.quant_conv(vae.encoder(x))[:, :16].float()
        y = vae.decoder(vae.post_quant_conv(mean + math.exp(LOGVAR / 2) * noise)).float()
        size = mean.square().mean()
        return functional.l1_loss(y, x), functional.mse_loss(y, x), edges(y, x), size

    start, steps, logged = 0.0, 0, []
    while True:
        chosen = rng.integers(len(pixels), size=BATCH)
        x = torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        with fast(device):
            l1, l2, edge, size = losses(x, torch.randn(BATCH, 16, 8, 8, device=device))
        start = start or time.monotonic()
        fraction = (time.monotonic() - start) / (60 * minutes)
        if fraction >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate(fraction, peak=PEAK_RATE)
        optimiser.zero_grad(set_to_none=True)
        (l1 + l2 + EDGE_WEIGHT * edge + PULL_WEIGHT * size).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        average.update()
        steps += 1
        logged.append([v.item() for v in (l1, l2, edge, size)])
        if steps % 100 == 0:
            mean = np.mean(logged[-100:], axis=0)
            print(
                f"vae {steps} {fraction:.3f} l1 {mean[0]:.4f} mse {mean[1]:.4f} "
                f"edge {mean[2]:.4f} size {mean[3]:.2f}", flush=True,
            )  # fmt: skip
        if steps % 300 == 0:
            torch.save(vae.state_dict(), work / "vae-live.pt")
    average.swap()
    torch.save({k: v.cpu().contiguous() for k, v in vae.state_dict().items()}, file)
    mean = np.mean(logged[-200:], axis=0)
    record = {"steps": steps, "batch": BATCH, "minutes": minutes, "l1": mean[0], "mse": mean[1],
              "edge": mean[2], "latent_mean_square": mean[3], "seed": seed}  # fmt: skip
    (work / "vae.json").write_text(json.dumps(record))
    return vae.cpu().eval()


@torch.no_grad()
def encode(work: Path, vae: AutoencoderKL, *, device: str) -> tuple[torch.Tensor, float]:
    """Return float16 latents of all pictures, scaled to unit variance, and the scaling factor."""
    file = work / "latents.pt"
    if not file.exists():
        vae = vae.to(device, memory_format=torch.channels_last)
        pixels, parts = np.load(work / "pictures.npy", mmap_mode="r"), []
        for at in range(0, len(pixels), 64):
            x = torch.from_numpy(pixels[at : at + 64]).permute(0, 3, 1, 2).to(device).float()
            x = (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            parts.append(vae.encode(x).latent_dist.mean.cpu())
        latents = torch.cat(parts)
        factor = float(1 / latents.std())
        torch.save({"latents": (latents * factor).half(), "factor": factor}, file)
    kept = torch.load(file, weights_only=True)
    return kept["latents"], kept["factor"]
