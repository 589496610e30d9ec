"""Review of predictions by a person: which places to look at first."""
