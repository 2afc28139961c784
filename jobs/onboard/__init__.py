"""What a model that joins goes through before it is explored: a check by calls, then probes within a budget."""
