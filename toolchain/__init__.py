"""The waist of eqcompile: IR, importers, registry, pipeline and command line. Imports no sibling package."""
