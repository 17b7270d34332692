"""guardrail: streaming guardrail middleware for LLM traffic, with a safety taxonomy."""

__version__ = "0.1.0"
