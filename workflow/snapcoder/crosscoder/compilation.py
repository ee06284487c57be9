"""How the loops of the sparse path on a CPU are compiled.

numba keeps compiled loops beside their module and compiles anew when that module changes, not when another one does: a
loop and what it calls are in one module, and after a change here the `__pycache__` folder has to go.
"""

from typing import Any

FAST: Any = {
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},  # sums may be reordered; inf and nan keep their meaning
}
PARALLEL: Any = FAST | {"parallel": True}
