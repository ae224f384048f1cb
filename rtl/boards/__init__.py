"""Boards: a UART front end around an engine, and the pins of each board."""
