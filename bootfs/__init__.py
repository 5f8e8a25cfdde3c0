"""The bootstrap file system: finds files on a BSD FFS disk, reads and writes their existing blocks, lists those blocks.

Interface: import what you need from the modules themselves: `device` (a disk), `filesystem` (the tree on it), `lookup`
(Mach's path rules), `blocklist` (the boundary object of the paper's section 8), `errors` (the one exception).
Not here: allocation (that is disktools), any knowledge of pagers. `construct` is loaded only when a disk is opened.
"""
