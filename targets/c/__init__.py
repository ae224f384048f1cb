"""Target `c`: freestanding C99, one header and one source."""
