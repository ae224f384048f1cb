"""The roof: command line, compilation, reports and the public API. The one room that imports every other."""
