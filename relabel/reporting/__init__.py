"""A finished run as one page: plain data in, HTML out. Nothing here reads a run or asks anybody."""
