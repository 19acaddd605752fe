"""Which published model a base is like, in the words that file headers and cards use.

Read off the spec alone: its family, and for Stable Diffusion 2, which is of family ``other``, the
widths that the attention of its UNet reads and its one OpenCLIP encoder of 1024. So no spec says
more than before, and clients of every version read it. AUTOMATIC1111 hides a LoRA whose header
names another generation than the loaded model's: ``sdxl_`` in ``ss_base_model_version``, else
``ss_v2``. Two bases of one shape are one architecture here, whatever they draw.
Source: formats.md 3.1 and 6; kohya's words for SD 2 are those of its sai_model_spec.py and
model_util.py: 768 pixels exactly where the model answers with a velocity.
"""

from dataclasses import dataclass
from typing import Final

from .spec import FederationSpec

_SD2_WIDTHS: Final = {320, 640, 1024, 1280}
_SD2_TEXT: Final = 1024
_VELOCITY: Final = "v"


@dataclass(frozen=True, slots=True)
class Architecture:
    """``title``: for people. ``name``: modelspec's. ``version``: kohya's. ``side``: in pixels."""

    title: str
    name: str
    version: str
    side: int

    @property
    def is_sd2(self) -> bool:
        """Whether it is Stable Diffusion 2, which headers say in a field of its own."""
        return self in {_SD2, _SD2_VELOCITY}

    @property
    def is_sdxl(self) -> bool:
        """Whether it is Stable Diffusion XL, whose files have names of their own."""
        return self == _SDXL

    @property
    def is_published(self) -> bool:
        """Whether programs other than diffusers and PEFT know such a model."""
        return self != _OTHER

    @classmethod
    def of(cls, spec: FederationSpec, prediction: str) -> "Architecture":
        """Return what the base of ``spec`` is like; ``prediction``: ``epsilon`` or ``v``.

        A base that no program knows has Stable Diffusion 1's names, whose spellings it uses.
        """
        if spec.base.family == "sdxl":
            return _SDXL
        if spec.base.family == "sd1":
            return _SD1
        if not _is_sd2(spec):
            return _OTHER
        return _SD2_VELOCITY if prediction == _VELOCITY else _SD2


_SD1: Final = Architecture("Stable Diffusion 1", "stable-diffusion-v1", "sd_v1", 512)
_SD2: Final = Architecture("Stable Diffusion 2", "stable-diffusion-v2-512", "sd_v2", 512)
_SD2_VELOCITY: Final = Architecture(
    "Stable Diffusion 2", "stable-diffusion-v2-768-v", "sd_v2_v", 768
)
_SDXL: Final = Architecture(
    "Stable Diffusion XL", "stable-diffusion-xl-v1-base", "sdxl_base_v1-0", 1024
)
_OTHER: Final = Architecture("a model of its own", "stable-diffusion-v1", "sd_v1", 512)


def _is_sd2(spec: FederationSpec) -> bool:
    """Return whether the UNet's attention reads the four widths, and the text is OpenCLIP's."""
    read = {
        layer.width
        for layer in spec.layers
        if layer.path.startswith("unet.")
        and (".attn1.to_" in layer.path or ".attn2.to_" in layer.path)
    }
    return read == _SD2_WIDTHS and [e.width for e in spec.encoders] == [_SD2_TEXT]
