"""Views of outcomes: text for people, JSON for programs."""
