"""Plans as data: normalised, checked, drawn, rendered into a scaffold and verified by reading the code.

Pure: nothing here opens a file, a socket or a clock. Whoever calls hands in bytes.
"""
