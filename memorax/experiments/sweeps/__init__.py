"""Searches for the options that a memory learns best with."""
