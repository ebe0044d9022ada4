"""What happened: each training's folder, its version, its record."""
