"""End to end: nodeprep as a process of its own, on virtual nodes with kernels of their own."""
