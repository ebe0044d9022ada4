"""What stands about a picture outside its caption file: in the picture itself, or in JSON and XMP beside it."""
