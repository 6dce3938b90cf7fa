"""The whole job told in eight steps, by separate processes on loopback."""
