"""Tests of the guarded stream."""
