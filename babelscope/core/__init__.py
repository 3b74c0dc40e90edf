"""What every room needs once: errors, files, configuration, statistics, progress. Never torch."""
