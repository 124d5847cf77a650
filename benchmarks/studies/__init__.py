"""Studies whose answer is known: equal configurations, and a slowdown that was planted."""
