"""One response under guard: events in, what may be shown out."""
