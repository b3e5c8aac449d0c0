"""One run: its configuration, training, evaluation and what it writes."""
