"""What finds, repairs or ends the effects of upsets in an engine; each part is built and tested alone."""
