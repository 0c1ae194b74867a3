"""The parts of make_golden.py: each module writes one kind of golden data."""
