"""Target `numpy`: a folder with a kernel that needs NumPy alone."""
