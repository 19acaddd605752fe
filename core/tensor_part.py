"""Which part of which adapter a tensor is, read off the end of its name: LoRA and its relatives.

Trainers write a module's name and then what the tensor is to it: ``.lora_up.weight`` (kohya),
``.lora_B.weight`` (PEFT: `lora_A` is down, `lora_B` is up), ``.lora_linear_layer.up.weight`` and
``_lora.up.weight`` (older diffusers), ``.hada_w1_a`` (LoHa), ``.lokr_w1`` (LoKr) and so on. Law: a
name has one reading or none; nothing is guessed. Sources: kohya sd-scripts' lora.py, LyCORIS,
diffusers' state_dict_utils.py, ComfyUI comfy/lora.py. Cost: one pass over a short table.
"""

from dataclasses import dataclass
from typing import Final, Literal

Algorithm = Literal["LoRA", "DoRA", "LoHa", "LoKr", "OFT", "GLoRA", "IA3", "full difference"]
Style = Literal["kohya", "peft", "peft default", "old diffusers", "lycoris"]


@dataclass(frozen=True, slots=True)
class TensorPart:
    """``module`` as the file spells it; ``role`` is up, down, alpha or the relative's own word."""

    module: str
    role: str
    algorithm: Algorithm
    style: Style


_ENDS: Final[tuple[tuple[str, str, Algorithm, Style], ...]] = (
    (".lora_up.weight", "up", "LoRA", "kohya"),
    (".lora_down.weight", "down", "LoRA", "kohya"),
    (".lora_mid.weight", "mid", "LoRA", "lycoris"),
    (".alpha", "alpha", "LoRA", "kohya"),
    (".lora_B.weight", "up", "LoRA", "peft"),
    (".lora_A.weight", "down", "LoRA", "peft"),
    (".lora_B.default.weight", "up", "LoRA", "peft default"),
    (".lora_A.default.weight", "down", "LoRA", "peft default"),
    (".lora_linear_layer.up.weight", "up", "LoRA", "old diffusers"),
    (".lora_linear_layer.down.weight", "down", "LoRA", "old diffusers"),
    ("_lora.up.weight", "up", "LoRA", "old diffusers"),
    ("_lora.down.weight", "down", "LoRA", "old diffusers"),
    (".lora.up.weight", "up", "LoRA", "old diffusers"),
    (".lora.down.weight", "down", "LoRA", "old diffusers"),
    (".dora_scale", "dora_scale", "DoRA", "kohya"),
    (".lora_magnitude_vector", "dora_scale", "DoRA", "peft"),
    (".lora_magnitude_vector.default.weight", "dora_scale", "DoRA", "peft default"),
    *((f".hada_{x}", x, "LoHa", "lycoris") for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(
        (f".lokr_{x}", x, "LoKr", "lycoris")
        for x in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    ),
    (".oft_blocks", "blocks", "OFT", "lycoris"),
    (".oft_diag", "diag", "OFT", "lycoris"),
    *((f".{x}.weight", x, "GLoRA", "lycoris") for x in ("a1", "a2", "b1", "b2")),
    (".on_input", "on_input", "IA3", "lycoris"),
    (".diff", "diff", "full difference", "lycoris"),
    (".diff_b", "diff_b", "full difference", "lycoris"),
    (".w_norm", "w_norm", "full difference", "lycoris"),
    (".b_norm", "b_norm", "full difference", "lycoris"),
)


def tensor_part(name: str) -> TensorPart | None:
    """Return what the tensor ``name`` is to its module, None for no part of an adapter.

    >>> tensor_part("lora_unet_conv_in.hada_w1_a").algorithm, tensor_part("emb_params")
    ('LoHa', None)
    """
    for end, role, algorithm, style in _ENDS:
        if name.endswith(end) and len(name) > len(end):
            return TensorPart(name[: -len(end)], role, algorithm, style)
    return None
