"""Which animal is this? Class means, open-set matching, tracks, evidence, assignment."""
