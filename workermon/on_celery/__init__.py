"""Celery: the application, the schedule, beat and the messages. Nothing else imports Celery."""
