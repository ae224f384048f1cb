"""A net's tick as C, for flips of states in nets that recur densely: compiled when a session needs it."""
