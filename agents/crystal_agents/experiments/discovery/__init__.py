"""Discovery: search for the target crystals of Perov-5 with few evaluations."""
