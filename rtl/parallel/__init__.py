"""The parallel engine: constant weights as adder graphs, one relaxation step in one or few clocks."""
