"""Make a tiny but real chat model, so that everything can be tried without a download.

A byte-pair tokenizer trained on the sentences below, a Llama of two layers with random weights, a
chat template and safetensors: about 300 kB in a second or two, and the same bytes for the same
seed. It answers with real words in no sensible order.

    python -m examples.tiny_model OUT [--seed N]
"""

from __future__ import annotations

import argparse
import json
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = (
    "The node asks a peer for the model and the peer answers with a stream of tokens.",
    "A creator signs the record and every node checks the signature by itself.",
    "The route names the host, the price and the load, and says why it was chosen.",
    "A build is cut into chunks and each chunk is checked before it is stored.",
    "The engine serves requests from the queue while the client reads the answer.",
    "Traders of the old league met in many ports and trusted one book of goods.",
    "When a host fails the next request goes to another host that has the model.",
    "A receipt is signed by both parties and the royalty follows from the receipts.",
)
SPECIAL = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 2048
HIDDEN = 64
INNER = 128
LAYERS = 2
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 32
"""vLLM's CPU attention dies at the first request with 16, after starting up healthy."""
SPREAD = 0.5
"""Standard deviation of the weights; the usual 0.02 repeats one token for ever."""


def make_tiny_model(folder: Path, *, seed: int = 0, head_dim: int = HEAD_DIM) -> dict[str, int]:
    """Write the model into `folder`; return its facts (`parameters`, `vocabulary`, `context`)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    vocabulary = tokenizer.get_vocab_size()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "config.json", _model_config(vocabulary, head_dim))
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": SPECIAL.index("<s>"), "eos_token_id": SPECIAL.index("</s>")},
    )
    shapes = _shapes(vocabulary, head_dim)
    rng = random.Random(seed)
    tensors = {name: (shape, _weights(name, shape, rng)) for name, shape in shapes.items()}
    (folder / "model.safetensors").write_bytes(_safetensors(tensors))
    parameters = sum(_size(shape) for shape in shapes.values())
    return {"parameters": parameters, "vocabulary": vocabulary, "context": CONTEXT}


def train_tokenizer() -> Tokenizer:
    """Return a byte-level BPE tokenizer trained on our own sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def main() -> None:
    """Make the model that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make a tiny real chat model.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other weights")
    parser.add_argument("--head-dim", type=int, default=HEAD_DIM, help="16 makes a broken model")
    given = parser.parse_args()
    facts = make_tiny_model(given.out, seed=given.seed, head_dim=given.head_dim)
    total = sum(path.stat().st_size for path in given.out.iterdir())
    print(json.dumps({"folder": str(given.out), **facts, "bytes": total}))


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _model_config(vocabulary: int, head_dim: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": SPREAD,
        "bos_token_id": SPECIAL.index("<s>"),
        "eos_token_id": SPECIAL.index("</s>"),
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _shapes(vocabulary: int, head_dim: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (vocabulary, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (HIDDEN,),
            f"{prefix}.post_attention_layernorm.weight": (HIDDEN,),
            f"{prefix}.self_attn.q_proj.weight": (HEADS * head_dim, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": (KV_HEADS * head_dim, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": (KV_HEADS * head_dim, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN, HEADS * head_dim),
            f"{prefix}.mlp.gate_proj.weight": (INNER, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": (INNER, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, INNER),
        }
    return shapes


def _weights(name: str, shape: Sequence[int], rng: random.Random) -> bytes:
    count = _size(shape)
    if name.endswith("norm.weight"):
        return _bfloat16([1.0]) * count
    return _bfloat16([rng.gauss(0.0, SPREAD) for _ in range(count)])


def _bfloat16(values: Sequence[float]) -> bytes:
    """Return the upper halves of the values' float32 spellings: that is what bfloat16 is."""
    singles = struct.pack(f"<{len(values)}f", *values)
    halves = bytearray(2 * len(values))
    halves[0::2] = singles[2::4]
    halves[1::2] = singles[3::4]
    return bytes(halves)


def _safetensors(tensors: Mapping[str, tuple[Sequence[int], bytes]]) -> bytes:
    """Return a safetensors file: length of the header, the header as JSON, the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (shape, raw) in tensors.items():
        offsets = [start, start + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": offsets}
        start += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(raw for _, raw in tensors.values())


def _size(shape: Sequence[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
