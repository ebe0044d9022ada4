"""A photo set looked at before a training: what is wrong with it, and the way to mend it."""
