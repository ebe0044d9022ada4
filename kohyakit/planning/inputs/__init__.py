"""What a training starts from, looked into without loading it: base model, VAE, LoRA, state, and where they lie."""
