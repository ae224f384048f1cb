"""Target `hls4ml`: a project for Vitis HLS or Vivado HLS."""
