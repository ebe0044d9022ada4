"""What a training will do, worked out before anything heavy is loaded."""
