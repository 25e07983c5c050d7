"""The page, the API and ``/metrics``: a process of its own that reads ``views`` and acts through the stages.

It is never on an alert's way. What every request passes is in ``app``; who may is decided in ``gate`` alone.
"""
