"""Specifications of what the comparison is made of."""
