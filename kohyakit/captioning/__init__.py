"""Captions written by a model: taggers, describers, chat models, a server; one file each."""
