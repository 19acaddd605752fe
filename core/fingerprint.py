r"""What a base model is, as one hash: the files that decide its answers, and no others.

SHA-256 over the lines ``<sha256>  <path>\n``, sorted by path, of model_index.json, every
component's config.json, the scheduler's and tokenizers' files and the safetensors weights. Law:
README, images, other precisions (``*.fp16.*``) and other formats do not count, so that two copies
of one model agree. Paths are relative, with forward slashes. Reading the files is the caller's.
"""

import hashlib
import re
from collections.abc import Mapping

from .errors import SpecError

_COUNTED = re.compile(
    r"model_index\.json"
    r"|[a-z0-9_]+/config\.json"
    r"|scheduler/[A-Za-z0-9_.-]+\.json"
    r"|tokenizer[a-z0-9_]*/"
    r"(?:vocab\.json|merges\.txt|tokenizer_config\.json|special_tokens_map\.json|tokenizer\.json)"
    # no dot inside the stem: `model.fp16.safetensors` is a twin of another precision
    r"|(?:unet|vae|text_encoder|text_encoder_2)/[A-Za-z0-9_-]+\.safetensors"
)
_HASH = re.compile(r"[0-9a-f]{64}")


def is_base_file(relpath: str) -> bool:
    """Return whether the file at ``relpath`` inside the model's folder counts.

    >>> is_base_file("unet/config.json"), is_base_file("unet/model.fp16.safetensors")
    (True, False)
    """
    return _COUNTED.fullmatch(relpath) is not None


def base_fingerprint(files: Mapping[str, str]) -> str:
    """Return the fingerprint in hex; ``files`` maps relative paths to SHA-256 in hex.

    Files that do not count are passed over. Raises SpecError: no weights among them, or a hash
    that is not 64 lower-case hex digits.
    """
    counted = {path: digest for path, digest in files.items() if is_base_file(path)}
    if not any(path.endswith(".safetensors") for path in counted):
        raise SpecError(
            f"{len(files)} files, none of them weights of a pipeline",
            why="a base model has unet/, vae/ and text_encoder/ with safetensors files",
            fix="give the folder of a diffusers pipeline that holds model_index.json",
            code="not-a-base-model",
        )
    for path, digest in counted.items():
        if _HASH.fullmatch(digest) is None:
            raise SpecError(
                f"hash {digest[:70]!r} of {path}",
                why="a SHA-256 is 64 lower-case hex digits",
                fix="hash the file with SHA-256 and give its hex digest",
                code="bad-hash",
            )
    lines = "".join(f"{counted[path]}  {path}\n" for path in sorted(counted))
    return hashlib.sha256(lines.encode("ascii")).hexdigest()
