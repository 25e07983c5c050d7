"""Every setting of Celery and RedBeat, each with its reason. What an installation varies is in ``WORKERMON_…``."""

from kombu import Exchange as _Exchange
from kombu import Queue as _Queue

from workermon import settings as _settings

_own = _settings.load()
_state = _settings.Address.parse(_own.state_url)
_broker = _settings.Address.parse(_own.broker)

# --- broker ------------------------------------------------------------------------------------------------------

# Celery masks the password of this one wherever it shows it (banner, 'inspect conf', Flower).
broker_url = _broker.kombu_url
broker_transport_options = {
    # Seconds until a message of a node that died is given to another: above the hard time limit and the wait in a
    # node's hands (prefetch), or tasks that still run would be started twice. The default is an hour.
    "visibility_timeout": 300,
    # Seconds, and every how manieth of those: how often nodes look for such messages. The defaults make it 100 s.
    "unacked_restore_interval": 30,
    "unacked_restore_throttle": 1,
    # Seconds. A server that hangs is noticed; longer than the poll for messages, which waits 1 s.
    "socket_timeout": 15,
    "socket_connect_timeout": 4,
    "socket_keepalive": True,
    "health_check_interval": 25,
    # Only Sentinel has these: the name of the group whose master is meant, and what the sentinels ask for themselves.
    **({"master_name": _broker.service, "sentinel_kwargs": _broker.sentinel} if _broker.service else {}),
}
broker_connection_timeout = 4
# A node that starts before Redis waits for it, as one that loses Redis does, for ever: restarts of Redis need nobody.
broker_connection_retry_on_startup = True
broker_connection_retry = True
broker_connection_max_retries = None
# A task runs to its end while the broker is away; late acknowledgement has it done again, which changes nothing.
worker_cancel_long_running_tasks_on_connection_loss = False

# --- messages ----------------------------------------------------------------------------------------------------

# JSON only: nothing that arrives is ever executed or unpickled.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"
# Nobody waits for a result: the truth is in Redis. No backend, so no clean-up task of Celery's either.
result_backend = None
result_expires = None
task_ignore_result = True
# A queue for each stage, so that a slow AWS never delays an alert.
task_queues = [
    _Queue(_name, _Exchange(_name), routing_key=_name)
    for _name in ("workermon.collect", "workermon.evaluate", "workermon.deliver")
]
task_default_queue = "workermon.evaluate"
task_routes = {
    "workermon.collect": {"queue": "workermon.collect"},
    "workermon.reconcile": {"queue": "workermon.collect"},
    "workermon.canary": {"queue": "workermon.collect"},
    "workermon.evaluate": {"queue": "workermon.evaluate"},
    "workermon.deliver": {"queue": "workermon.deliver"},
}
# A misspelt queue is an error, not a new queue that nobody reads.
task_create_missing_queues = False
# 'expires' is not here, for it is the message's: the interval for a collection, so that a backlog does not pile up,
# half a minute for a bell (on_celery/bell.py).
# A bell that cannot be rung is left to the sweep within a second or two, instead of holding up its ringer.
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5}

# --- execution ---------------------------------------------------------------------------------------------------

# Acknowledged after the work, and given back when the process that did it is lost: every task can be repeated.
task_acks_late = True
task_reject_on_worker_lost = True
# One message in hand for each thread and one waiting: messages are batches, and others may be free.
worker_prefetch_multiplier = 1
# Seconds. Enforced by the prefork pool only; calls to AWS and to channels have limits of their own in every pool.
task_soft_time_limit = 100
task_time_limit = 120
# Collection waits for AWS (50–300 ms a call), so threads; '-P prefork -c 4' and '-P solo' work as well.
worker_pool = "threads"
worker_concurrency = 10
# Seconds. A prefork child that has not come up by then is replaced; importing boto3 on a busy machine takes a while.
worker_proc_alive_timeout = 15.0

# --- what is seen of it ------------------------------------------------------------------------------------------

# Flower and 'celery events' live on these. Messages are batches, so they stay few.
worker_send_task_events = True
task_send_sent_event = True
# Logging is ours (logs.py), by the signal in on_celery/app.py; a library's print stays a print.
worker_hijack_root_logger = False
worker_redirect_stdouts = False
enable_utc = True
timezone = "UTC"

# --- beat --------------------------------------------------------------------------------------------------------

# RedBeat's, with due entries of one tick sent together. '-S' chooses another: 'celery -A workermon beat -S
# redbeat.RedBeatScheduler' runs the same entries. Inside a node use 'worker -B' without '-S', which is --statedb there.
beat_scheduler = "workermon.on_celery.scheduler:Scheduler"
# Seconds between two looks at what is due; shorter where intervals of a few seconds are allowed, as in the demo.
beat_max_loop_interval = 1.0 if _own.min_interval >= 10 else 0.2
# Seconds. A standby takes over that long after beat died. At least five loops, or a slow tick loses it.
redbeat_lock_timeout = 5
# Without credentials, for Celery and Flower show this one as it is; they hide the options' password.
redbeat_redis_url = _state.redbeat_url
redbeat_redis_options = {
    **_state.redbeat_options,
    # Seconds. A server that hangs ends beat, and the supervisor starts it again.
    "socket_timeout": 4,
    **({} if _state.path else {"socket_connect_timeout": 4}),
}
# RedBeat's own default, said because it is part of the entries' names in Redis.
redbeat_key_prefix = "redbeat:"
