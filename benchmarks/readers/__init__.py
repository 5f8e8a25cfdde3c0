"""One program a reader of disks: each does the same work on IMAGE, times it itself, and prints seconds as JSON.

Interface: `python READER.py IMAGE NAME`, where NAME is the large file; keys as in benchmarks.bench_bootfs.MEASURES.
Not here: which reader is how much better. Peers run in an environment of their own and share no line with this project.
"""
