"""What ``make fuzz`` runs is a script with a module beside it, in no package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "fuzz"))
