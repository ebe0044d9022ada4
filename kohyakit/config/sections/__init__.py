"""The parameters, declared once each, by what they are about."""
