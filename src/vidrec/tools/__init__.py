"""After the fact: scan a folder, list and prune its videos, verify and repair it. No torch."""
