"""Tests of `guardrail.train`."""
