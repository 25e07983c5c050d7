"""Amazon Web Services through boto3. Only this package knows boto3's clients, errors and dicts."""
