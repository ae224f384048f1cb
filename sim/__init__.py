"""Running things: the golden model, comparison, and one runner per simulator."""
