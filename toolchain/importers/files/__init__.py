"""From bytes to named arrays and graphs: one bounded reader a format, which runs no code and believes no size."""
