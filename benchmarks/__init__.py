"""The measures: each a command that prints a table and writes JSON, with ratios taken in one interleaved run.

Interface: `python -m benchmarks` lists them; `python -m benchmarks NAME` runs one; `--help` with a name tells more.
Not here: tests. Nothing here decides whether the project works.
"""
