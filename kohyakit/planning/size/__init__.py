"""How large things become: the model, the LoRA file, the memory."""
