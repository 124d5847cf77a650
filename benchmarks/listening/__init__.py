"""How well the analysis of listening tests tells a preference from none: simulated listeners, and scripted ones who
take a test in a browser."""
