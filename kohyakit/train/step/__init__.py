"""One step of a training: batches, latents, noise, losses, and where their chance comes from."""
