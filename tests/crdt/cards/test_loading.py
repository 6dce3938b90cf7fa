"""What the card costs those who do not use it."""

from __future__ import annotations

import subprocess
import sys


def test_the_engine_is_loaded_only_when_a_document_is_made() -> None:
    program = (
        "import sys, crdt.cards as cards; assert 'pycrdt' not in sys.modules\n"
        "cards.CardDocument.of([]); assert 'pycrdt' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
