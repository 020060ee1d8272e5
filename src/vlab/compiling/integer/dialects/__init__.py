"""How a CPU computes with int8 and int32 codes: one class for each, of what kernels say to it."""
