"""Amazon Web Services through boto3: the only place that knows its clients, its errors and its dicts."""
