"""Networks of the field that are not in the paper, trained by the same methods."""
