"""Tests: a mirror of nodeprep/, and a specification of it."""
