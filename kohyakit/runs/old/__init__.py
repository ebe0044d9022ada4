"""What Kohya's tools left behind, taken up as runs."""
