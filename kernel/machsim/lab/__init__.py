"""The laboratory: each protection of the paper's sections 4 and 5, taken away, and what happens then.

Interface:
    EXPERIMENTS    by name; a new one is a module of this package, and a line here
"""

from __future__ import annotations

from kernel.machsim.lab.experiment import Experiment
from kernel.machsim.lab.pager_memory import NO_PRIVILEGE, NO_RESERVE, NO_WIRING
from kernel.machsim.lab.rogue import ROGUE_PAGER
from kernel.machsim.lab.sharing import DEVICE_TASK, FILE_SYSTEM, ONE_POOL

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (NO_WIRING, NO_RESERVE, NO_PRIVILEGE, ONE_POOL, DEVICE_TASK, FILE_SYSTEM, ROGUE_PAGER)
}
