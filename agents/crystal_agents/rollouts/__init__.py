"""Roll-outs of many crystals of a collection at once, or of one structure of a user."""
