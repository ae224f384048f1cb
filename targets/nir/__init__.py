"""Target `nir`: an IntNet as a NIR graph of affine maps, thresholds and delays, without loss."""
