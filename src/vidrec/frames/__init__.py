"""Pure functions on tensors: any layout, dtype, device and batch becomes uint8 [N, H, W, 3]. No RL library."""
