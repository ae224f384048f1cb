"""From a trained equilibrium network to hardware, with proof that the hardware computes what the network computes."""
