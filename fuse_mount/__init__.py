"""The view: what a default pager holds, a kernel's memory and a disk's tree, as files under one mount point.

Interface: the command `pagermount`.  `view.view` makes the tree (tree.py: plain objects, no FUSE), `operations.py`
shows it as a file system, `binding.py` alone talks to fusepy or mfusepy.
Not here: paging.  The view asks, by pager.client and kernel.client, and changes nothing.
"""
