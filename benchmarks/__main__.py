"""python -m benchmarks [NAME ...]: list the measures, or run one."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    """Run the module `benchmarks.bench_NAME`, which has a `main(words)`; without a NAME, list them."""
    found = sorted(one.name.removeprefix("bench_") for one in pkgutil.iter_modules([str(Path(__file__).parent)])
                   if one.name.startswith("bench_"))  # fmt: skip
    words = sys.argv[1:]
    if words and words[0] in found:
        result = importlib.import_module(f"benchmarks.bench_{words[0]}").main(words[1:])
        return int(result or 0)
    for name in found:
        summary = (importlib.import_module(f"benchmarks.bench_{name}").__doc__ or "").partition("\n")[0]
        print(f"  python -m benchmarks {name:10} {summary}")
    if words and words[0] not in ("-h", "--help"):
        print(f"benchmarks: there is no measure {words[0]!r}; those that are there stand above", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
