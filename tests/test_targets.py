"""Which tensors of a base are adapted, by name alone."""

from orthofed.core.targets import attention_layers, tensor_names


def test_only_attention_projections_of_a_unet_are_taken() -> None:
    """Biases, norms, MLPs, convolutions and the VAE's attention stay as they are."""
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    shapes = {
        f"{block}.attn2.to_out.0.weight": (320, 320),
        f"{block}.attn2.to_k.weight": (320, 768),
        f"{block}.attn1.to_q.weight": (320, 320),
        f"{block}.attn1.to_out.0.bias": (320,),
        f"{block}.norm1.weight": (320,),
        f"{block}.ff.net.2.weight": (320, 1280),
        "mid_block.attentions.0.to_q.weight": (512, 512),
        "down_blocks.0.attn1.to_q.weight": (4, 4, 1, 1),
    }

    layers = attention_layers("unet", shapes)

    assert [layer.path for layer in layers] == [
        f"unet.{block}.attn1.to_q",
        f"unet.{block}.attn2.to_k",
        f"unet.{block}.attn2.to_out.0",
    ]
    assert (layers[1].out, layers[1].width) == (320, 768)


def test_a_text_encoder_has_one_path_with_or_without_its_prefix() -> None:
    """New libraries write the flat spelling, SD 1.5 the long one."""
    name = "encoder.layers.3.self_attn.out_proj.weight"

    flat = attention_layers("text_encoder", {name: (768, 768)})
    long = attention_layers("text_encoder", {f"text_model.{name}": (768, 768)})

    assert flat == long
    assert flat[0].path == "text_encoder.text_model.encoder.layers.3.self_attn.out_proj"
    assert tensor_names(flat[0].path) == (f"text_model.{name}", name)


def test_a_file_without_attention_gives_nothing() -> None:
    """The caller decides whether that is an error."""
    assert attention_layers("vae", {"encoder.conv_in.weight": (8, 3, 3, 3)}) == ()
    assert tensor_names("unet.a.attn1.to_q") == ("a.attn1.to_q.weight",)
