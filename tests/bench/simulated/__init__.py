"""Specifications of the simulated fleet."""
