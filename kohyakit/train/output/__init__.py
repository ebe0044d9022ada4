"""What a training writes: LoRA files, states, metadata, samples."""
