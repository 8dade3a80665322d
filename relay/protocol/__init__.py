"""What both ends agree on: bytes in, values out. No clock, no disk, no network. SPEC.md is the text."""
