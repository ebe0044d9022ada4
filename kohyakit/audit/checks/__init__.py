"""One file a check; the table of them is `kohyakit.registry.CHECKS`."""
