"""Engine `fast`: from the stored fault-free trajectory, only what deviates is computed."""
