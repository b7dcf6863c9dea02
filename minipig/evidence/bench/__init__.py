"""What a training step and a sampled pair cost."""
