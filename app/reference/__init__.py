"""Pages of the reference that are made of the program itself (`make docs`)."""
