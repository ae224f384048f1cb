"""Networks of other research codes, each after its published update; the names are those of their classes."""
