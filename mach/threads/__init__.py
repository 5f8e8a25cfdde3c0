"""Threads, mutexes and conditions on two runtimes: see `mach.threads.runtime`."""

from mach.threads.native import NativeRuntime
from mach.threads.runtime import Condition, Deadlock, LockOrderError, LockRank, Mutex, Runtime, Thread

__all__ = ["Condition", "Deadlock", "LockOrderError", "LockRank", "Mutex", "NativeRuntime", "Runtime", "Thread"]
