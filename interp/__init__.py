"""One `nn.Module`: anatomy, lens, working language, neurons, loss, generation. Never a run's files."""
