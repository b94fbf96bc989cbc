"""The data plane: requests in, upstream called, responses out under guard."""
