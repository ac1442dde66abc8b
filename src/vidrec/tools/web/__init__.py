"""The videos of a folder in a browser: one page with all of them, as a file or served on this machine."""
