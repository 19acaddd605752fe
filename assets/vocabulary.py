"""Train the tokenizer: byte-level BPE in CLIP's layout, from the captions.

The vocabulary is the 256 byte signs, the same with `</w>`, the merges in order, and the two
special tokens last, as OpenAI's is; every whole word of the captions ends as one token. Concept
names are no part of the text it sees, so that a name is never a token.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# tokenizers publishes partial types

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

LENGTH: Final = 40
NUM_TOKENS: Final = 1_600
START, END = "<|startoftext|>", "<|endoftext|>"
WORD: Final = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train(captions: Iterable[str], folder: Path) -> None:
    """Write `vocab.json`, `merges.txt` and `tokenizer_config.json` into the folder."""
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS, initial_alphabet=alphabet, end_of_word_suffix="</w>",
        show_progress=False,
    )  # fmt: skip
    model.train_from_iterator(sorted(captions), trainer)
    pairs = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    tokens = sorted(alphabet) + [sign + "</w>" for sign in sorted(alphabet)]
    tokens += [token for token in dict.fromkeys(a + b for a, b in pairs) if token not in tokens]
    tokens += [START, END]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True,
        "add_prefix_space": False, "errors": "replace", "bos_token": START, "eos_token": END,
        "pad_token": END, "unk_token": END,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
