"""The command ``memorax``."""
