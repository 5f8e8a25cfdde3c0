"""What both sides of the pager's boundary share, as Mach's own <mach/...>: result codes, ports, messages, threads."""
