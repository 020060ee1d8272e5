"""Computations of our own in place of TVM's: what an operator computes, in the form and layout its schedule wants."""
