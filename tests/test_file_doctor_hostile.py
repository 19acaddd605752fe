"""Whatever a file holds, the doctor gives a report: no traceback, no full memory (T5, T8)."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orthofed.client import examined_file
from orthofed.client.examined_file import ExaminedFile, examine_file
from orthofed.client.file_view import Fixed, file_json, file_text, fix_text
from orthofed.client.fixed_file import write_fixed
from orthofed.core.errors import InputError
from orthofed.core.file_fix import file_fix
from orthofed.core.metadata_rules import forbidden_keys
from orthofed.core.tensorfile import WIDE

from .adapter_files import write

MODULE = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
QUICK = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def small(folder: Path) -> bytes:
    """Return a whole LoRA of one layer with metadata, some hundred bytes."""
    tensors = {
        f"{MODULE}.lora_up.weight": np.ones((4, 2), "f2"),
        f"{MODULE}.lora_down.weight": np.ones((2, 4), "f2"),
        f"{MODULE}.alpha": np.array(2, "f2"),
    }
    return write(folder / "small.safetensors", tensors, {"ss_network_dim": "2"}).read_bytes()


def reported(folder: Path, data: bytes) -> ExaminedFile:
    """Examine, show and mend such a file: only an error of ours may come out of the mending."""
    path, out = folder / "hostile.safetensors", folder / "out.safetensors"
    path.write_bytes(data)
    out.unlink(missing_ok=True)
    file = examine_file(path)
    text = file_text(file)
    assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(json.dumps(file_json(file)))["healthy"] is not file.failed
    if file.header is None or file.kind is None or file.values is None:
        assert file.failed
        return file
    fix = file_fix(file.header, file.kind, file.values)
    assert all(line.isprintable() for line in fix_text(Fixed(out, fix)).splitlines())
    write_fixed(path, file.header, fix, out)
    copy = examine_file(out)
    assert copy.header is not None
    assert forbidden_keys(copy.header.metadata) == ()
    return file


def packed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def test_a_file_cut_at_any_byte_is_a_report(tmp_path):
    """Every length from nothing to one byte short; whole, it is well."""
    whole = small(tmp_path)

    for length in range(len(whole)):
        file = reported(tmp_path, whole[:length])
        assert [check.name for check in file.checks] == ["readable"], length
        assert file.failed, length
    assert not reported(tmp_path, whole).failed


def test_any_changed_byte_of_the_header_is_a_report(tmp_path):
    """Each byte of length and header, with three other values: read or refused."""
    whole = small(tmp_path)
    start = 8 + int.from_bytes(whole[:8], "little")

    for place in range(start):
        for other in (0, whole[place] ^ 1, 0xFF):
            changed = bytearray(whole)
            changed[place] = other
            reported(tmp_path, bytes(changed))


@QUICK
@given(data=st.binary(max_size=400))
def test_random_bytes_are_a_report(tmp_path, data):
    """As the file, and as a header of the right length."""
    reported(tmp_path, data)
    reported(tmp_path, packed(b"{" + data + b"}", data))


ENDS = (
    ".lora_up.weight",
    ".lora_down.weight",
    ".alpha",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_linear_layer.up.weight",
    "_lora.down.weight",
    ".hada_w1_a",
    ".dora_scale",
    ".lokr_w1",
    "",
)
PLACES = (
    MODULE,
    "lora_unet_mid_block_attentions_0_proj_in",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q",
    "text_encoder.text_model.encoder.layers.0.self_attn.k_proj",
    "base_model.model.mid_block.attentions.0.proj_in",
    "diffusion_model.middle_block.1.proj_in",
    "bundle_emb.anna.x",
    "model.diffusion_model.out.2.bias",
    "a.unet",
    "clip_l",
    "",
)
names = st.one_of(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(ENDS)).map("".join), st.text(max_size=9)
)
shapes = st.lists(st.sampled_from((0, 1, 2, 3, 768)), max_size=5).filter(
    lambda shape: np.prod(shape) <= 2400
)
keys = st.sampled_from(
    ("ss_network_alpha", "lora_adapter_metadata", "sshs_model_hash", "ss_dataset_dirs", "format")
)
scales = st.sampled_from(
    (
        '{"unet.r":0,"unet.lora_alpha":1}',
        '{"unet.r":2,"unet.lora_alpha":1e999}',
        '{"unet.r":2,"unet.lora_alpha":NaN}',
        '{"unet.lora_alpha":true}',
        '{"unet.r":2,"unet.lora_alpha":4}',
        "[" * 9000,
        "[1]",
    )
)


@QUICK
@given(data=st.data())
def test_every_file_that_can_be_read_can_be_told_and_mended(tmp_path, data):
    """True names with false shapes, types and numbers, in every mixture of programs' spellings."""
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    header: dict[str, object] = {
        "__metadata__": data.draw(
            st.dictionaries(st.one_of(keys, st.text(max_size=5)), st.one_of(scales, st.text()))
        )
    }
    body = b""
    for name in data.draw(st.lists(names, max_size=9, unique=True)):
        dtype, shape = data.draw(st.sampled_from(sorted(WIDE.sizes))), data.draw(shapes)
        size = WIDE.sizes[dtype] * int(np.prod(shape))
        offsets = [len(body), len(body) + size]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += random.bytes(size) if data.draw(st.booleans()) else bytes(size)

    file = reported(tmp_path, packed(json.dumps(header).encode(), body))

    assert file.header is not None


@pytest.mark.parametrize("length", [1 << 63, (8 << 20) + 1, 0, 1])
def test_a_length_that_no_header_has_is_refused_before_anything_is_read(tmp_path, length):
    """Eight bytes that ask for exabytes, and a sparse file long enough for nine mebibytes."""
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{")
    with path.open("r+b") as file:
        file.truncate(9 << 20)

    found = examine_file(path)

    assert found.failed
    assert f"a header of {length} bytes" in found.checks[0].what


def _tensors(size: int) -> bytes:
    entry = '"%06d":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}'
    count = (size - 2) // (len(entry % 0) + 1)
    return ("{" + ",".join(entry % k for k in range(count)) + "}").encode()


HUGE = {
    "tensors": _tensors,
    "lists": lambda size: b'{"x":[' + b"[]," * (size // 3 - 4) + b"[]]}",
    "metadata": lambda size: b'{"__metadata__":{"ss_x":"' + b"x" * (size - 40) + b'"}}',
    "depth": lambda size: b'{"x":' + b"[" * (size - 5),
}
SCRIPT = """
import resource, sys
from orthofed.__main__ import main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    main()
finally:
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(after - before, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", HUGE)
def test_the_largest_header_takes_bounded_memory(tmp_path, kind):
    """Eight mebibytes of each worst thing: under 600 MiB, and a report."""
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(packed(HUGE[kind](8 << 20)))
    command = [sys.executable, "-P", "-c", SCRIPT, "doctor", str(path)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    grown_kib = int(done.stderr.splitlines()[-1])
    assert done.returncode in (0, 4), done.stderr[-500:]
    assert "checks\n" in done.stdout
    assert grown_kib < 600 << 10, f"{grown_kib >> 10} MiB"


def test_a_file_that_shrinks_under_the_doctor_is_an_error(tmp_path, monkeypatch):
    """It is cut after its header was read and before its numbers are."""
    path = tmp_path / "small.safetensors"
    whole = small(tmp_path)
    read = examined_file.read_values

    def cut(*given):
        path.write_bytes(whole[:-3])
        return read(*given)

    monkeypatch.setattr(examined_file, "read_values", cut)

    with pytest.raises(InputError, match="ends early"):
        examine_file(path)
