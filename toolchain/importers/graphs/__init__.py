"""From the nodes of a dataflow graph to the operations of an EqNet."""
