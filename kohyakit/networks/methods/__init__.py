"""One file a method: what it adds to a layer, and under which names."""
