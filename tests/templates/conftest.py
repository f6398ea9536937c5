"""Modules beside and above the tests of the templates can be imported from them."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent.parent, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
