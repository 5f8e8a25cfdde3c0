"""The simulated Mach kernel core: tasks, VM objects, resident pages, faults, pageout against an external pager.

Not here: the pager (pager/); kernel and pager meet in mach, and only a command's own module puts them together.
"""
