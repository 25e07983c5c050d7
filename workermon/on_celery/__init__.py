"""Celery: the application, the schedule, beat, the tasks and the listener. Nothing else imports Celery."""
