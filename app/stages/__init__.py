"""The stages from a trained net to a campaign of faults: a frozen object each, which shows itself in a notebook."""
