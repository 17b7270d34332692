"""Tests of `guardrail.classifier`."""
