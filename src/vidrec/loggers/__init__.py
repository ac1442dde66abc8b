"""Where finished videos go."""
