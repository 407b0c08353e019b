"""Other ways to train, and other teachers, to compare the paper's with."""
