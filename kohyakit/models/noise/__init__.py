"""What is done with noise: while training, and while pictures are drawn."""
