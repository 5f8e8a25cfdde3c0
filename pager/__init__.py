"""The default pager: a daemon that keeps the memory of others in the blocks of a paging file (paper §3 - §6)."""
