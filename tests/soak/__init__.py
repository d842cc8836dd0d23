"""The same thing again and again at random moments, and a look at what is left of it."""
