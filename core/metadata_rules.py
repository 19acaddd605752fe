"""What the header of a file that is passed on may say: formats.md 6 and 8, for anybody's files.

Trainers write down folders, captions, sizes and times of the pictures they saw, and a web UI shows
some of it, unescaped. Law: a key is on the list or is forbidden; of a stranger's file a value must
also have the characters and the length of ours. ``ss_tag_frequency`` is on the list for our files
alone: there it names triggers, elsewhere it counts the captions' words. Cost: linear.
"""

import re
from collections.abc import Mapping
from typing import Final

from .fields import is_hex
from .lorafile import JSON_KEYS, MAX_VALUE, PLAIN_VALUE

LISTED: Final = frozenset(
    [f"modelspec.{key}" for key in ("architecture", "hash_sha256", "implementation", "license")]
    + [f"modelspec.{key}" for key in ("is_negative_embedding", "prediction_type", "resolution")]
    + [f"modelspec.{key}" for key in ("sai_model_spec", "tags", "title", "trigger_phrase")]
    + [f"orthofed.{key}" for key in ("basis", "content", "format", "spec")]
    + [f"ss_{key}" for key in ("base_model_version", "network_alpha", "network_dim", "v2")]
    + [f"ss_{key}" for key in ("network_module", "output_name", "sd_model_name", "tag_frequency")]
    + ["format", "lora_adapter_metadata", "modelspec.usage_hint", "sshs_model_hash"]
)
"""Every key that a file of ours may have."""
_OURS: Final = "orthofed.format"
_TAGS: Final = "ss_tag_frequency"
_HASHES: Final = ("modelspec.hash_sha256", "sshs_model_hash")
_MARKUP: Final = re.compile(r"[<>&'\"]")


def forbidden_keys(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys that a file to be passed on does not have, sorted.

    >>> forbidden_keys({"ss_dataset_dirs": "{}", "ss_network_dim": "8"})
    ('ss_dataset_dirs',)
    """
    listed = LISTED if _OURS in metadata else LISTED - {_TAGS}
    return tuple(sorted(set(metadata) - listed))


def strange_values(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys whose values have other characters than ours, or more, sorted."""
    return tuple(
        sorted(
            key
            for key, value in metadata.items()
            if PLAIN_VALUE.fullmatch(value) is None
            or (len(value) > MAX_VALUE and key not in JSON_KEYS)
        )
    )


def hash_injections(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hashes that are none and hold markup, which A1111 puts into its page as it is."""
    return tuple(key for key in _HASHES if _MARKUP.search(metadata.get(key, "")))


def false_hashes(metadata: Mapping[str, str], tensor_hash: str) -> tuple[str, ...]:
    """Return the hashes of the tensors that the header states and that are not ``tensor_hash``."""
    said = {key: metadata[key].removeprefix("0x") for key in _HASHES if key in metadata}
    return tuple(k for k, v in said.items() if is_hex(v) and v != tensor_hash)


def kept_metadata(metadata: Mapping[str, str], *, tensor_hash: str) -> dict[str, str]:
    """Return what of the metadata a file to be passed on keeps, its hashes those of the tensors."""
    gone = {*forbidden_keys(metadata), *strange_values(metadata)}
    kept = {key: value for key, value in metadata.items() if key not in gone}
    for key in _HASHES:
        if key in metadata:
            kept[key] = f"0x{tensor_hash}" if key.startswith("modelspec") else tensor_hash
    return kept
