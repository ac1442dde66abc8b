"""After the fact: scan a folder, list, prune and join its videos, verify, repair and show it. No torch."""
