"""Training of the embedded classifier; behind the ``[train]`` extra. Knows no proxy."""
