"""What weight files and state folders hold, told without loading them and without running anything in them."""
