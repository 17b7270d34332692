"""Tests of `guardrail.evaluate`."""
