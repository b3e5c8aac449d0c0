"""What each algorithm can be set to, checked without importing JAX.

The command line reads its options from here before anything else is imported. An algorithm's module
registers its configuration as a pytree.
"""
