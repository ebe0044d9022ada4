"""What the pages show, read from files and read again only when these change."""
