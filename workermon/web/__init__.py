"""The page, the API and ``/metrics``: a separate process that reads ``views`` and acts through the stages.

No alert depends on it. ``app`` has what every request passes; only ``gate`` decides who may do what.
"""
