"""What a series shows: sweep, stages, proportion, mix, export, figures, report."""
