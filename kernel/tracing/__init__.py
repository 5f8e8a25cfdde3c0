"""What is made of a machine's trace: a fault's story, a file for Perfetto, a page that replays it."""
