"""Roll-outs: many crystals of a collection at once, or one structure of a user."""
