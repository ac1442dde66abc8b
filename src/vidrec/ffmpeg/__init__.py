"""Encodings, the FFmpeg process behind a clip, and FFmpeg for whole files. No torch."""
