"""Folders and files of runs: locks, atomic writes, checked reading."""
