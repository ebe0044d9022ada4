"""Many captions at once: which of them are meant, what is done to their text, what stands in them, in numbers."""
