"""The lab: its pure parts on paper, and one small file that really boots nodes."""
