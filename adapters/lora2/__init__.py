"""LoRA²: its adapter, and the layers with two planes whose orthogonality it asks for."""
