"""The tools that make disks: the only code that allocates on one."""
