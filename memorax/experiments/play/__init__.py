"""Watching an agent play."""
