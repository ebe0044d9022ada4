"""What an audit found, mended with a way back for every byte."""
