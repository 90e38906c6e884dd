"""The device model: devices of an HVM guest that domain 0 emulates."""
