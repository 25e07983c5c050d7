"""The shells that join the stages: tasks and listener."""
