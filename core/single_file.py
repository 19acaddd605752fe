"""Where a pipeline's tensors lie in the one file that web UIs take: Stable Diffusion 1, 2, XL.

    unet              model.diffusion_model.<original path>                        (core/ldm.py)
    vae               first_stage_model.<original path>
    text_encoder      cond_stage_model.transformer.<name>       SD 1, CLIP's own names
                      cond_stage_model.model.<OpenCLIP name>    SD 2
                      conditioner.embedders.0.transformer.<name>        XL
    text_encoder_2    conditioner.embedders.1.model.<OpenCLIP name>     XL

OpenCLIP keeps q, k and v in one ``in_proj``, rows in that order, and its text projection the other
way round. Laws: a tensor of the pipeline has one place here, no two share a row, and no name is
guessed: it is there or None is said. A sampler's place, the blocks' length and the number of the
VAE's levels are read off the names, of a file or of a pipeline that becomes one. Source: formats.md
5.7; the published layouts, held against diffusers' own converter by tests/test_single_file.py. Not
here: reading files, writing one (core/full_file.py).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from .errors import SpecError
from .ldm import ldm_path

UNET: Final = "model.diffusion_model."
_VAE: Final = "first_stage_model."
_CLIP: Final = {
    "text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."),
}
_OPEN_CLIP: Final = {
    "text_encoder": ("cond_stage_model.model.",),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
OUTER: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION: Final = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",  # as older files say
}
_OPEN_OUTER: Final = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_LAYER: Final = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_IN_PROJ: Final = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_UP_VAE = re.compile(r"(decoder\.)up_blocks\.(\d+)\.(.+)")
_TEXT_MODEL: Final = "text_model."
_SAMPLER: Final = ".2.conv"
_DOWN = re.compile(r"down_blocks\.\d+\.resnets\.(\d+)\..+")
_DECODER_UP = re.compile(r"decoder\.up_blocks\.(\d+)\..+")
_UPSAMPLER = re.compile(r"(up_blocks\.\d+\.)upsamplers\..+")
_PROJ_IN = re.compile(r".+\.attentions\.\d+\.proj_in\.weight")
_NUM_AXES_LINEAR: Final = 2
Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""The shape of each tensor of a pipeline, by component and name."""
_SCHEDULE = re.compile(
    r"betas|alphas_cumprod(?:_prev)?|lvlb_weights|posterior_(?:variance|log_variance_clipped"
    r"|mean_coef[12])|sqrt_(?:one_minus_|recip_|recipm1_)?alphas_cumprod|log_one_minus_alphas_cumprod"
)
_UNREAD = re.compile(
    r"(?:cond_stage_model|conditioner\.embedders\.1)\.model\.logit_scale"
    r"|cond_stage_model\.model\.text_projection"
)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a tensor lies: ``part`` = (k, 3) for one third of the rows; ``turned``: transposed."""

    key: str
    part: tuple[int, int] | None = None
    turned: bool = False


class SingleFileNames:
    """The tensor names of one file, and what of a pipeline each of them holds."""

    def __init__(self, names: Collection[str], *, each: int = 0, levels: int = 0) -> None:
        """Read the file's shape off its names; ``each`` and ``levels`` where they are known."""
        self._names = frozenset(names)
        number = re.compile(rf"{re.escape(UNET)}input_blocks\.(\d+)\.0\.op\.weight")
        samplers = [int(m[1]) for name in names if (m := number.fullmatch(name))]
        self._each = each or min(samplers, default=3)
        level = re.compile(rf"{re.escape(_VAE)}decoder\.up\.(\d+)\..+")
        found = [int(m[1]) for name in names if (m := level.fullmatch(name))]
        self._levels = levels or max(found, default=0) + 1

    @classmethod
    def of_pipeline(cls, shapes: Shapes) -> "SingleFileNames":
        """Return the names of the file that a pipeline becomes.

        A text encoder alone is CLIP's where the UNet's projections are convolutions, as in SD 1,
        and OpenCLIP's where they are linear, as in SD 2: so readers tell the two apart. A tensor
        that no such file holds is not among the names.
        """
        unet = shapes.get("unet", {})
        each = max((int(m[1]) for n in unet if (m := _DOWN.fullmatch(n))), default=1) + 2
        ups = [int(m[1]) for n in shapes.get("vae", {}) if (m := _DECODER_UP.fullmatch(n))]
        plain = cls((), each=each, levels=max(ups, default=0) + 1)
        prefixes = _text_prefixes(shapes)
        chosen = set[str]()
        for component, tensors in shapes.items():
            for name in tensors:
                for spot in plain.candidates(component, name):
                    if _fits(spot.key, component, name, unet, prefixes):
                        chosen.add(spot.key)
                        break
        return cls(chosen, each=each, levels=max(ups, default=0) + 1)

    @staticmethod
    def is_one(names: Collection[str]) -> bool:
        """Return whether these are the names of a whole checkpoint."""
        return any(name.startswith(UNET) for name in names)

    def spot(self, component: str, name: str) -> Spot | None:
        """Return where the tensor ``name`` of a pipeline's component lies; None: it is not here.

        >>> SingleFileNames(["model.diffusion_model.out.2.bias"]).spot("unet", "conv_out.bias")
        Spot(key='model.diffusion_model.out.2.bias', part=None, turned=False)
        """
        return next((s for s in self.candidates(component, name) if s.key in self._names), None)

    def unread(self, last_layers: Collection[str] = ()) -> frozenset[str]:
        """Return the names of what no loader makes pictures with, though it is there.

        Noise schedules of the training, CLIP's logit scale, SD 2's projection and the text layers
        behind the last one that is used, by the prefixes ``last_layers``.
        """
        return frozenset(
            name
            for name in self._names
            if _SCHEDULE.fullmatch(name)
            or _UNREAD.fullmatch(name)
            or name.startswith(tuple(last_layers) or ("\0",))
        )

    def unused_layers(self, num_layers: int) -> tuple[str, ...]:
        """Return the prefixes of SD 2's text layers from ``num_layers`` on, which nothing runs."""
        prefix = f"{_OPEN_CLIP['text_encoder'][0]}transformer.resblocks."
        numbers = {
            int(n[len(prefix) :].partition(".")[0]) for n in self._names if n.startswith(prefix)
        }
        return tuple(f"{prefix}{number}." for number in sorted(numbers) if number >= num_layers)

    def candidates(self, component: str, name: str) -> list[Spot]:
        """Return the places that a tensor may have in files of every family."""
        if component == "unet":
            return [Spot(UNET + path) for path in self._unet(name)]
        if component == "vae":
            return [Spot(_VAE + self._vae(name))]
        bare = name.removeprefix(_TEXT_MODEL)
        plain = [
            Spot(prefix + spelt)
            for prefix in _CLIP.get(component, ())
            for spelt in (_TEXT_MODEL + bare, bare)
        ]
        opened = _open_clip(bare)
        if opened is None:
            return plain
        return plain + [
            Spot(prefix + opened.key, opened.part, opened.turned)
            for prefix in _OPEN_CLIP.get(component, ())
        ]

    def _unet(self, name: str) -> list[str]:
        """Return the original paths that one of the UNet's tensors may have."""
        module, _, leaf = name.rpartition(".")
        if module in OUTER:
            return [f"{OUTER[module]}.{leaf}"]
        try:
            path = ldm_path(module, each=self._each)
        except SpecError:
            return []
        # An upsampler's place says whether an attention stands before it.
        other = [path.removesuffix(_SAMPLER) + ".1.conv"] if path.endswith(_SAMPLER) else []
        return [f"{each}.{leaf}" for each in (path, *other)]

    def _vae(self, name: str) -> str:
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        if (up := _UP_VAE.fullmatch(name)) is not None:
            side, block, rest = up.groups()
            rest = re.sub(r"resnets\.(\d+)", r"block.\1", rest).replace("upsamplers.0", "upsample")
            return f"{side}up.{self._levels - 1 - int(block)}.{rest}"
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        head, found, part = name.partition("mid_block.attentions.0.")
        if not found:
            return name
        stem, _, leaf = part.rpartition(".")
        return f"{head}mid.attn_1.{_VAE_ATTENTION.get(stem, stem)}.{leaf}"


def _text_prefixes(shapes: Shapes) -> Mapping[str, str]:
    """Return how the names of each text encoder begin; none for a pipeline of another family."""
    linear = any(
        len(shape) == _NUM_AXES_LINEAR
        for name, shape in shapes.get("unet", {}).items()
        if _PROJ_IN.fullmatch(name)
    )
    if "text_encoder" not in shapes:
        return {}
    if "text_encoder_2" in shapes:
        return {
            "text_encoder": f"{_CLIP['text_encoder'][1]}{_TEXT_MODEL}",
            "text_encoder_2": _OPEN_CLIP["text_encoder_2"][0],
        }
    if linear:
        return {"text_encoder": _OPEN_CLIP["text_encoder"][0]}
    return {"text_encoder": f"{_CLIP['text_encoder'][0]}{_TEXT_MODEL}"}


def _fits(
    key: str,
    component: str,
    name: str,
    unet: Collection[str],
    prefixes: Mapping[str, str],
) -> bool:
    """Return whether a place that a tensor may have is the one in this pipeline's file."""
    if component.startswith("text_encoder"):
        return component in prefixes and key.startswith(prefixes[component])
    if component == "unet" and (match := _UPSAMPLER.fullmatch(name)) is not None:
        attended = any(other.startswith(f"{match[1]}attentions.") for other in unet)
        return attended == (_SAMPLER in key)
    return True


def _open_clip(name: str) -> Spot | None:
    """Return where OpenCLIP keeps a tensor of CLIP's text model; None: it has none of that name."""
    if name == "text_projection.weight":
        return Spot("text_projection", turned=True)
    if name in _OPEN_OUTER:
        return Spot(_OPEN_OUTER[name])
    if (match := _LAYER.fullmatch(name)) is None:
        return None
    number, part, leaf = match.groups()
    place = f"transformer.resblocks.{number}."
    if part in _IN_PROJ:
        return Spot(f"{place}attn.in_proj_{leaf}", part=(_IN_PROJ[part], len(_IN_PROJ)))
    return Spot(f"{place}{_OPEN_LAYER[part]}.{leaf}") if part in _OPEN_LAYER else None
