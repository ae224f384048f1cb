"""Importers: from a checkpoint file to an EqNet."""
