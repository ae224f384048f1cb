"""The event-driven engine: one weight column, a few rows a clock, for each unit whose code changed."""
