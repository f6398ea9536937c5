"""Write the goldens anew: `python tests/templates/regenerate.py [NAME…]`. Read the difference."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from matrix import golden, golden_path  # noqa: E402 (found through the line above)
from published import TEMPLATES  # noqa: E402

if __name__ == "__main__":
    for name in sys.argv[1:] or TEMPLATES:
        golden_path(name).write_text(golden(name), encoding="utf-8", newline="\n")
