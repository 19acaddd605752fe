"""The loader rules that `orthofed doctor` tells from are those that were derived anew for tests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.loaders import PROGRAMS, Program, Verdict, verdicts
from orthofed.core.module_spelling import FAMILIES, Family
from orthofed.core.published import PublishedModel

from .adapter_files import KOHYA, every_key, kohya_names
from .loader_rules import FORGE_MOST, MODELS, RULES, unmatched

MODEL: dict[Family, PublishedModel] = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}
SHOWN: dict[str, Program] = {
    "comfyui": "ComfyUI",
    "forge": "Forge",
    "a1111": "A1111",
    "kohya": "kohya",
}


def verdict(family: Family, program: Program, keys: list[str]) -> Verdict:
    return next(each for each in verdicts(family, keys) if each.program == program)


@pytest.mark.parametrize("program", RULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_both_derivations_leave_the_same_names_over(family: Family, program: str) -> None:
    """Each attention in each of seven spellings, alone in a file, then all of them together."""
    model = MODEL[family]
    bases = sorted(set(every_key(model)))
    keys = [f"{base}.{end}" for base in bases for end in KOHYA]

    assert list(verdict(family, SHOWN[program], keys).left) == sorted(
        unmatched(program, MODELS[model], keys)
    )
    assert 0 < len(unmatched(program, MODELS[model], keys)) < len(keys)


PIECES = (
    "lora_unet",
    "lora_te",
    "down_blocks",
    "input_blocks",
    "_0_",
    "_1_",
    "attn1",
    "_q_",
    "text",
)


@settings(deadline=None)  # the first example makes the tables of all families
@given(st.data())
def test_both_derivations_agree_on_names_that_are_nearly_right(data: st.DataObject) -> None:
    """Words of true names swapped for others: a file of forty such modules, in every program."""
    family = data.draw(st.sampled_from(FAMILIES))
    right = sorted({name.partition(".")[0] for name in kohya_names(MODEL[family])})
    bases: set[str] = set()
    for base in data.draw(st.lists(st.sampled_from(right), min_size=1, max_size=40)):
        old, new = data.draw(st.tuples(st.sampled_from(PIECES), st.sampled_from(PIECES)))
        bases.add(base.replace(old, new, 1) if data.draw(st.booleans()) else base)
    keys = [f"{base}.{end}" for base in sorted(bases) for end in KOHYA]

    for program, name in SHOWN.items():
        found = verdict(family, name, keys)
        assert list(found.left) == sorted(unmatched(program, MODELS[MODEL[family]], keys)), name


def test_the_first_upsampler_stands_behind_an_attention_in_sdxl_alone() -> None:
    """Published: output_blocks.2.1.conv in SD 1, 2.2.conv in SDXL; A1111 counts as in SD 1."""
    first, second = (f"lora_unet_output_blocks_2_{k}_conv" for k in (1, 2))
    kohyas = "lora_unet_up_blocks_0_upsamplers_0_conv"

    def takes(family: Family, base: str) -> set[str]:
        keys = [*kohya_names(MODEL[family]), *(f"{base}.{end}" for end in KOHYA)]
        return {each.program for each in verdicts(family, keys) if each.outcome == "all"}

    everybody = set(PROGRAMS)
    assert takes("sd1", first) == takes("sd2", first) == everybody - {"diffusers", "kohya"}
    assert takes("sdxl", second) == everybody
    assert takes("sd1", second) == takes("sdxl", first) == set()
    assert takes("sd1", kohyas) == everybody
    assert "A1111" not in takes("sdxl", kohyas)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_program_takes_all_of_our_stacked_file(family: Family) -> None:
    """Nothing is left over, and nobody is said to refuse it."""
    found = verdicts(family, kohya_names(MODEL[family]))

    assert [each.program for each in found] == list(PROGRAMS)
    assert {each.outcome for each in found} == {"all"}


def test_a_bundle_is_for_a1111_alone() -> None:
    """Diffusers refuses the file by the name; Forge drops it at the thirteenth trigger."""
    keys = kohya_names("sd15")
    bundle = [f"bundle_emb.anna-k{k}.string_to_param.*" for k in range(FORGE_MOST)]

    few = {each.program: each for each in verdicts("sd1", [*keys, *bundle])}
    many = {each.program: each for each in verdicts("sd1", [*keys, *bundle, "bundle_emb.x.y"])}

    assert (few["A1111"].outcome, few["ComfyUI"].outcome) == ("all", "part")
    assert few["diffusers"].outcome == "nothing"
    assert "bundle_emb.anna-k0" in few["diffusers"].why
    assert (few["Forge"].outcome, many["Forge"].outcome) == ("part", "nothing")
    assert "more than 12" in many["Forge"].why


def test_half_a_pair_stops_the_programs_that_ask_for_both() -> None:
    """Without one down ComfyUI, A1111 and diffusers stop; without an up A1111, kohya, diffusers."""
    keys = kohya_names("sd15")
    down, up = keys[1], keys[0]

    no_down = {each.program for each in verdicts("sd1", keys[:1] + keys[2:]) if each.why}
    no_up = {each.program for each in verdicts("sd1", keys[1:]) if each.why}

    assert (down.endswith("lora_down.weight"), up.endswith("lora_up.weight")) == (True, True)
    assert no_down == {"ComfyUI", "Forge", "A1111", "diffusers"}
    assert no_up == {"A1111", "kohya", "diffusers"}
