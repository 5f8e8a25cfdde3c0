"""Memory references of real programs, and how many page faults they are on a machine of a given size and policy."""
