"""What holds for all tests: mutexes keep their order and are counted, in this process and in those that it starts."""

import os

from mach.threads.native import CHECK_LOCKS

os.environ[CHECK_LOCKS] = "1"
