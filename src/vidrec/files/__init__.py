"""Names, places, locks, the index of a folder, the manifest of a growing clip. No torch."""
