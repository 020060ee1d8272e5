"""What a model file is and holds, told before any compiler or runtime touches it."""
