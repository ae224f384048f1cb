"""Loihi through Lava: an exact event-driven network of graded spikes, and where it would lie on the chip."""
