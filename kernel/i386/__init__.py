"""The i386 of the machine: what Mach keeps in its i386 folders.  See the head of each module, and docs/i386.md."""
