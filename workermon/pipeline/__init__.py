"""The shells that connect the stages: tasks and listener."""
