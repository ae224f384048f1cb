"""Injection into the Verilog of the relaxation core: generated saboteurs, one compiled simulation for all faults."""
