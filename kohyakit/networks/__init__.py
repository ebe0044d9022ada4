"""Networks that learn beside a frozen model; one file a method."""
