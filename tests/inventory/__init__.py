"""What an inventory may say, what is refused and how, and which nodes come of it."""
