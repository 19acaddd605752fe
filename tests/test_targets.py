"""Which tensors of a base are adapted, by name and shape alone."""

import pytest

from orthofed.core.targets import TARGETS, Targets, target_layers, tensor_names

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
UNET = {
    f"{BLOCK}.attn2.to_out.0.weight": (320, 320),
    f"{BLOCK}.attn2.to_k.weight": (320, 768),
    f"{BLOCK}.attn1.to_q.weight": (320, 320),
    f"{BLOCK}.attn1.to_out.0.bias": (320,),
    f"{BLOCK}.norm1.weight": (320,),
    f"{BLOCK}.ff.net.0.proj.weight": (2560, 320),
    f"{BLOCK}.ff.net.2.weight": (320, 1280),
    "down_blocks.0.attentions.0.proj_in.weight": (320, 320, 1, 1),
    "down_blocks.0.attentions.0.proj_out.weight": (320, 320),
    "down_blocks.0.downsamplers.0.conv.weight": (320, 320, 3, 3),
    "up_blocks.0.upsamplers.0.conv.weight": (320, 320, 3, 3),
    "mid_block.resnets.0.conv1.weight": (320, 640, 3, 3),
    "mid_block.resnets.0.conv2.weight": (320, 320, 3, 3),
    "mid_block.resnets.0.conv2.bias": (320,),
    "mid_block.resnets.0.norm1.weight": (640,),
    "mid_block.resnets.0.conv_shortcut.weight": (320, 640, 1, 1),
    "mid_block.resnets.0.time_emb_proj.weight": (320, 1280),
    "mid_block.attentions.0.to_q.weight": (512, 512),
    "down_blocks.0.attn1.to_q.weight": (4, 4, 1, 1),
    "conv_in.weight": (320, 4, 3, 3),
    "conv_out.weight": (4, 320, 3, 3),
    "time_embedding.linear_1.weight": (1280, 320),
    "add_embedding.linear_1.weight": (1280, 2816),
}
ATTENTION = {
    f"{BLOCK}.attn1.to_q": (320, 320),
    f"{BLOCK}.attn2.to_k": (320, 768),
    f"{BLOCK}.attn2.to_out.0": (320, 320),
}
LINEAR = {
    f"{BLOCK}.ff.net.0.proj": (2560, 320),
    f"{BLOCK}.ff.net.2": (320, 1280),
    "down_blocks.0.attentions.0.proj_out": (320, 320),
    "mid_block.resnets.0.time_emb_proj": (320, 1280),
}
CONVOLUTIONS = {
    "down_blocks.0.attentions.0.proj_in": (320, 320),
    "down_blocks.0.downsamplers.0.conv": (320, 9 * 320),
    "mid_block.resnets.0.conv1": (320, 9 * 640),
    "mid_block.resnets.0.conv2": (320, 9 * 320),
    "mid_block.resnets.0.conv_shortcut": (320, 640),
    "up_blocks.0.upsamplers.0.conv": (320, 9 * 320),
}
PRESETS = {
    "unet": ATTENTION,
    "attention": ATTENTION,
    "linear": ATTENTION | LINEAR,
    "all": ATTENTION | LINEAR | CONVOLUTIONS,
}


@pytest.mark.parametrize("targets", TARGETS)
def test_a_preset_takes_its_weights_of_a_unet_and_no_others(targets: Targets) -> None:
    """Biases, norms, the first and last convolution, the embeddings stay as they are."""
    layers = target_layers("unet", UNET, targets)

    assert {x.path.removeprefix("unet."): (x.out, x.width) for x in layers} == PRESETS[targets]
    assert list(layers) == sorted(layers)


def test_a_convolution_is_as_wide_as_its_kernel_times_its_channels() -> None:
    """And keeps the shape that its weight has in files; 1 x 1 is a kernel, too."""
    layers = {x.path: x for x in target_layers("unet", UNET, "all")}

    for name, shape in UNET.items():
        layer = layers.get(f"unet.{name.removesuffix('.weight')}")
        if layer is not None:
            assert layer.shape == shape
            assert layer.kernel == shape[2:]


def test_a_text_encoder_has_one_path_with_or_without_its_prefix() -> None:
    """New libraries write the flat spelling, SD 1.5 the long one."""
    name = "encoder.layers.3.self_attn.out_proj.weight"

    flat = target_layers("text_encoder", {name: (768, 768)})
    long = target_layers("text_encoder", {f"text_model.{name}": (768, 768)})

    assert flat == long
    assert flat[0].path == "text_encoder.text_model.encoder.layers.3.self_attn.out_proj"
    assert tensor_names(flat[0].path) == (f"text_model.{name}", name)


def test_the_mlp_of_a_text_encoder_is_linear_and_its_embeddings_are_not() -> None:
    """Patches of an image encoder and the projection of features have no place in a LoRA file."""
    shapes = {
        "text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768),
        "text_model.encoder.layers.0.mlp.fc2.weight": (768, 3072),
        "text_model.embeddings.token_embedding.weight": (49408, 768),
        "text_projection.weight": (1280, 1280),
    }

    layers = target_layers("text_encoder_2", shapes, "all")

    assert [x.path.rpartition(".")[2] for x in layers] == ["fc1", "fc2"]
    assert layers == target_layers("text_encoder_2", shapes, "linear")
    assert target_layers("text_encoder_2", shapes) == ()


def test_a_component_that_no_concept_adapts_gives_nothing() -> None:
    """The VAE has the residual blocks of a UNet; the caller decides whether none is an error."""
    assert target_layers("vae", {"decoder.mid_block.resnets.0.conv1.weight": (8, 8, 3, 3)}) == ()
    assert target_layers("vae", UNET, "all") == ()
    assert tensor_names("unet.a.attn1.to_q") == ("a.attn1.to_q.weight",)
