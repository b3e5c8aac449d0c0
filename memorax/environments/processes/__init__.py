"""Gymnasium environments in separate processes."""
