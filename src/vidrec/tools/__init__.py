"""After the fact: scan a folder, verify and repair it. No torch."""
