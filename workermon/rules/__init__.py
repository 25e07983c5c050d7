"""What a rule says of its datapoints: pure, one file a kind."""
