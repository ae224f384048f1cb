"""Injection on a GPU: many disturbed inferences side by side, each until it is on the clean trajectory again."""
