"""One video: growing (a clip) and finished (`Video`). No RL library."""
