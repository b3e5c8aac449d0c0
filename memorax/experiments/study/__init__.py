"""Several runs at once: comparisons and sweeps, their tables, plots and pages."""
