"""What trains a mask: rollouts through every step, gates, losses."""
