"""An inline Formfile in a record is read before the record is signed or taken.

A replica takes such a record all the same: what a newer program's Formfile may say is not known
here, and a record must be judged alike by every node.
"""

from __future__ import annotations

import re

from registry import AIAgent, AIModel, InvalidRecord, Problem
from templates import FormfileError, parse_formfile

FIELD = "formfile_template"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_inline_formfile(record: AIModel | AIAgent) -> None:
    """Return if the record's template is empty, a digest, or a Formfile that can be read.

    Raises:
        InvalidRecord: naming the line and column of what is wrong.
    """
    text = record.formfile_template
    if not text or _DIGEST.fullmatch(text):
        return
    try:
        parse_formfile(text)
    except FormfileError as error:
        line = text.splitlines()[error.line - 1 : error.line]
        raise InvalidRecord([Problem(FIELD, repr((line or [""])[0][:80]), str(error))]) from error
