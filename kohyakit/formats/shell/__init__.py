"""Command files (.bat .sh .ps1 .args) as people have them, read and never run: see command_file."""
