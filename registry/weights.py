"""How many bytes a model's weights are: one table, for validation and for sizing.

Validation refuses by it, on every node: a changed number is a new wire version.
"""

from __future__ import annotations

import re

_BITS_MILLI = {
    "FP32": 32_000, "FP16": 16_000, "BF16": 16_000, "FP8": 8_000, "INT8": 8_000,
    "INT4": 4_500, "GPTQ": 4_500, "AWQ": 4_500,
}  # fmt: skip
"""Thousandths of a bit per weight. 4-bit formats: 4 bits, and 16-bit scale and zero point shared by
64 weights (templates.md: about 0.56 bytes)."""

_GGUF_BITS_MILLI = {
    "IQ1_S": 2_005, "IQ1_M": 2_146, "IQ2_XXS": 2_383, "IQ2_XS": 2_589, "IQ2_S": 2_741,
    "IQ2_M": 2_930, "IQ3_XXS": 3_255, "IQ3_XS": 3_498, "IQ3_S": 3_661, "IQ3_M": 3_763,
    "IQ4_XS": 4_460, "IQ4_NL": 4_682, "Q2_K_S": 2_970, "Q2_K": 3_160, "Q3_K_S": 3_643,
    "Q3_K_M": 3_996, "Q3_K_L": 4_298, "Q4_0": 4_660, "Q4_1": 5_130, "Q4_K_S": 4_668,
    "Q4_K_M": 4_895, "Q5_0": 5_540, "Q5_1": 6_010, "Q5_K_S": 5_571, "Q5_K_M": 5_704,
    "Q6_K": 6_564, "Q8_0": 8_501, "F16": 16_001, "BF16": 16_001, "F32": 32_001,
}  # fmt: skip
"""Whole-file bits per weight of Llama-3.1-8B in each variant (llama.cpp, tools/quantize/README)."""
GGUF_VARIANT_USUAL = "Q4_K_M"
GGUF_VARIANT_SMALLEST = "IQ1_S"
_VARIANT = re.compile(r"(?:GGUF[-_: /]?)?([A-Z0-9_]+)")


def bits_milli_per_weight(quantization: str | None) -> int | None:
    """Return thousandths of a bit per weight; None for a format that is not known.

    Args:
        quantization: A name of records.md, or a GGUF variant as `Q4_K_M` or `GGUF-Q4_K_M`. None is
            not stated: nothing is assumed.
    """
    if quantization is None:
        return None
    name = quantization.upper()
    if name in _BITS_MILLI:
        return _BITS_MILLI[name]
    if name == "GGUF":
        return _GGUF_BITS_MILLI[GGUF_VARIANT_USUAL]
    match = _VARIANT.fullmatch(name)
    return _GGUF_BITS_MILLI.get(match.group(1)) if match else None


def weights_bytes(parameters: int, quantization: str | None) -> int | None:
    """Return the bytes of a model's weights, rounded up; None for a format that is not known."""
    bits = bits_milli_per_weight(quantization)
    return None if bits is None else -(-parameters * bits // 8_000)


def weights_bytes_min(parameters: int, quantization: str | None) -> int | None:
    """Return the fewest bytes that the weights can be: GGUF alone may be of any variant."""
    if quantization is not None and quantization.upper() == "GGUF":
        return weights_bytes(parameters, GGUF_VARIANT_SMALLEST)
    return weights_bytes(parameters, quantization)
