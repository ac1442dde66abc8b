"""Names, places, locks, forks, the index of a folder, object stores, the manifest of a growing clip. No torch."""
