"""An estimate of the memory that training takes, part by part. An estimate: nothing is loaded or measured."""
