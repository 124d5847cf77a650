"""How well `harmonia_lab.analysis.compare` tells differences: simulations, and real runs of one configuration."""
