"""Names and shapes of the attention of two real base models, written out by formats.md 3.1.

``sd1_layers()`` and ``sdxl_layers()`` go through core/targets.py from tensor names, as a base on
disk would, with biases and MLPs among them to be passed over.
"""

from orthofed.core.spec import Layer
from orthofed.core.targets import attention_layers

Shapes = dict[str, tuple[int, ...]]


def sd1_layers() -> tuple[Layer, ...]:
    places = [(f"down_blocks.{b}.attentions.{a}", 1) for b in range(3) for a in range(2)]
    places += [("mid_block.attentions.0", 1)]
    places += [(f"up_blocks.{b}.attentions.{a}", 1) for b in range(1, 4) for a in range(3)]
    widths = {"down_blocks": (320, 640, 1280), "up_blocks": (1280, 1280, 640, 320)}
    unet = _unet([(place, depth, _width(place, widths)) for place, depth in places], text=768)
    return _sorted(attention_layers("unet", unet), attention_layers("text_encoder", _text(12, 768)))


def sdxl_layers() -> tuple[Layer, ...]:
    places = [(f"down_blocks.{b}.attentions.{a}", d) for b, d in ((1, 2), (2, 10)) for a in (0, 1)]
    places += [("mid_block.attentions.0", 10)]
    places += [(f"up_blocks.{b}.attentions.{a}", d) for b, d in ((0, 10), (1, 2)) for a in range(3)]
    widths = {"down_blocks": (320, 640, 1280), "up_blocks": (1280, 640, 320)}
    unet = _unet([(place, depth, _width(place, widths)) for place, depth in places], text=2048)
    return _sorted(
        attention_layers("unet", unet),
        attention_layers("text_encoder", _text(12, 768)),
        attention_layers("text_encoder_2", _text(32, 1280)),
    )


def _sorted(*parts: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(sorted(layer for part in parts for layer in part))


def _width(place: str, widths: dict[str, tuple[int, ...]]) -> int:
    side, block = place.split(".")[:2]
    return 1280 if side == "mid_block" else widths[side][int(block)]


def _unet(places: list[tuple[str, int, int]], *, text: int) -> Shapes:
    shapes: Shapes = {"conv_in.weight": (320, 4, 3, 3)}
    for place, depth, width in places:
        for d in range(depth):
            block = f"{place}.transformer_blocks.{d}"
            for attention, source in (("attn1", width), ("attn2", text)):
                shapes[f"{block}.{attention}.to_q.weight"] = (width, width)
                shapes[f"{block}.{attention}.to_k.weight"] = (width, source)
                shapes[f"{block}.{attention}.to_v.weight"] = (width, source)
                shapes[f"{block}.{attention}.to_out.0.weight"] = (width, width)
                shapes[f"{block}.{attention}.to_out.0.bias"] = (width,)
            shapes[f"{block}.ff.net.2.weight"] = (width, 4 * width)
    return shapes


def _text(depth: int, width: int) -> Shapes:
    shapes: Shapes = {"text_model.embeddings.token_embedding.weight": (49408, width)}
    for i in range(depth):
        block = f"text_model.encoder.layers.{i}"
        for projection in ("q", "k", "v", "out"):
            shapes[f"{block}.self_attn.{projection}_proj.weight"] = (width, width)
            shapes[f"{block}.self_attn.{projection}_proj.bias"] = (width,)
        shapes[f"{block}.mlp.fc1.weight"] = (4 * width, width)
    return shapes
