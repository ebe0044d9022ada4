"""Pictures and captions as they lie on disk."""
