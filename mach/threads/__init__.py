"""Threads, mutexes and conditions on two runtimes: see `mach.threads.runtime`."""

from mach.threads.native import NativeRuntime
from mach.threads.runtime import Condition, Deadlock, LockOrderError, LockRank, Mutex, OwedBy, Runtime, Thread
from mach.threads.waiting import Wait, WaitGraph

__all__ = [
    "Condition",
    "Deadlock",
    "LockOrderError",
    "LockRank",
    "Mutex",
    "NativeRuntime",
    "OwedBy",
    "Runtime",
    "Thread",
    "Wait",
    "WaitGraph",
]
