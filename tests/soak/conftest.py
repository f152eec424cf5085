"""The soak's own modules import each other as Python runs a folder: it is the first place where they are looked for."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
