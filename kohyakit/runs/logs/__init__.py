"""TensorBoard event files, read into points."""
