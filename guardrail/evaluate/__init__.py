"""Measures and reports; torch-free. Knows nothing of the proxy."""
