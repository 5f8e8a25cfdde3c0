"""Replacement policies, one to a file: which page is to go next.  docs/new-replacement-policy.md adds one.

Interface:
    POLICIES                    name -> class, of all that this package holds
    DEFAULT                     Mach's
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from kernel.replacement.policy import Policy

DEFAULT = "second-chance"


def _all() -> dict[str, type[Policy]]:
    """Every class named Replacement in a module of this package, by its `name`."""
    modules = (import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__))
    found: list[type[Policy]] = [module.Replacement for module in modules if hasattr(module, "Replacement")]
    return {policy.name: policy for policy in found}


POLICIES = _all()
