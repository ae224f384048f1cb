"""The lattice engine: one cell a neuron, neighbour wires only, all cells in lock step."""
