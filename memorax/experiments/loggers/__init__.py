"""Where the metrics of a run go, one file a logger."""
