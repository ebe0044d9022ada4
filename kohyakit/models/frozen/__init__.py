"""What makes frozen weights small on a device: in 8 bits, or waiting in main memory for their turn."""
