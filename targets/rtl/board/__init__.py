"""A board's folder beside a core: bitstream, top module with a UART, and the script of the host."""
