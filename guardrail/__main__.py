"""``python -m guardrail`` is the command line."""

from guardrail.cli import main

if __name__ == "__main__":
    main()
