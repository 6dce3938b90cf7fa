"""The tiny model: same seed, same bytes; readable by the libraries that will read it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from safetensors import deserialize
from tokenizers import Tokenizer

# By path: a library we depend on installs a package of its own named `examples`.
PATH = Path(__file__).parents[2] / "examples" / "tiny_model.py"
SPEC = importlib.util.spec_from_file_location("tiny_model", PATH)
assert SPEC is not None
assert SPEC.loader is not None
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
make_tiny_model = MODULE.make_tiny_model


def test_one_seed_gives_one_model_and_another_gives_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_tiny_model(tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert a == b != c


def test_its_files_agree_with_each_other(tmp_path):
    facts = make_tiny_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tensors = dict(deserialize((tmp_path / "model.safetensors").read_bytes()))
    sizes = 0
    for tensor in tensors.values():
        assert tensor["dtype"] == "BF16"
        sizes += len(tensor["data"]) // 2
    assert sizes == facts["parameters"]
    assert tokenizer.get_vocab_size() == config["vocab_size"] == facts["vocabulary"]
    assert tensors["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    text = "The peer answers."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
