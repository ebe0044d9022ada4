"""How commands show on a terminal what the library found."""
