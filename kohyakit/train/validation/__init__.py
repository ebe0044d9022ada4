"""The loss on photos that are not trained, or with noise that is not."""
