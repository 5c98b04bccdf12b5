"""The benches as far as they decide something: what they compare, count and add up."""
