"""Formfiles: how a model or an agent becomes a running process."""

from templates.errors import BadParameters, DoesNotFit, FormfileError, UnknownTemplate
from templates.legacy import Warned, read_formfile
from templates.machine import Gpu, Machine, fits, misfits
from templates.parameters import bind, parameter_values, preset
from templates.parser import parse_formfile
from templates.sizing import (
    Facts,
    Need,
    Profile,
    check_memory,
    check_vram,
    facts_from_config,
    profiles,
    sequences_that_fit,
    size,
)
from templates.tree import Formfile, Param
from templates.vllm import (
    BUILTIN_NAMES,
    VLLM_FORMFILE,
    EnginePlan,
    builtin_template,
    render,
    template_of,
)
from templates.writer import canonical_bytes, template_digest, write_formfile

__all__ = [
    "BUILTIN_NAMES", "VLLM_FORMFILE", "BadParameters", "DoesNotFit", "EnginePlan", "Facts",
    "Formfile", "FormfileError", "Gpu", "Machine", "Need", "Param", "Profile",
    "UnknownTemplate", "Warned",
    "bind", "builtin_template", "canonical_bytes", "check_memory", "check_vram",
    "facts_from_config", "fits", "misfits", "parameter_values", "parse_formfile",
    "preset", "profiles",
    "read_formfile", "render", "sequences_that_fit", "size", "template_digest", "template_of",
    "write_formfile",
]  # fmt: skip
