"""Plain numerical kernels, one file per model; operators choose one by device."""
