"""Every setting of Celery and RedBeat, each with its reason. An installation sets what differs by ``WORKERMON_…``."""

from kombu import Exchange as _Exchange
from kombu import Queue as _Queue
from kombu.transport import redis as _kombu_redis

from workermon import settings as _settings
from workermon.settings import amqp_address as _amqp_address
from workermon.settings import redis_address as _redis_address

_own = _settings.load()
_state = _redis_address.RedisAddress.parse(_own.state_url)
_on_redis = None if _own.broker_is_rabbitmq else _redis_address.RedisAddress.parse(_own.broker)
_on_rabbitmq = _amqp_address.AmqpAddress.parse(_own.broker) if _own.broker_is_rabbitmq else None

# What each sentinel's client gets, beside what the URL says of it. redis-py would ask one that is away eleven times, up
# to a minute in one tick of beat, before it asks the next one. Seconds.
_asked_once = {
    "retry": _kombu_redis.redis.retry.Retry(_kombu_redis.redis.backoff.NoBackoff(), 0),
    "socket_connect_timeout": 2.0,
    "socket_timeout": 4.0,
}

# --- broker ------------------------------------------------------------------------------------------------------

# Celery masks the password of this URL wherever it shows it (banner, 'inspect conf', Flower).
broker_url = _on_redis.kombu_url if _on_redis else _on_rabbitmq.kombu_url if _on_rabbitmq else ""
_of_redis = {
    # Seconds until a message of a node that died goes to another node. Longer than the hard time limit plus the wait
    # as a prefetched message, or tasks that still run would be started twice. Celery's default is an hour.
    "visibility_timeout": 300,
    # Seconds, and every n-th time: how often nodes look for such messages. With Celery's defaults it is 100 s.
    "unacked_restore_interval": 30,
    "unacked_restore_throttle": 1,
    # Kombu's default names are the same in every application. On a shared database each application would take the
    # others' messages for lost, and send them again.
    "unacked_key": _settings.UNACKED,
    "unacked_index_key": _settings.UNACKED_INDEX,
    "unacked_mutex_key": _settings.UNACKED_MUTEX,
    # Seconds, so that a hanging server is noticed. Longer than a request for a message, which is open for up to 10 s.
    "socket_timeout": 15,
    "socket_connect_timeout": 4,
    "socket_keepalive": True,
    # Seconds. A request that is overdue by so long, or twice as long, is on a dead connection.
    "health_check_interval": 20,
}
# RabbitMQ gives the messages of a node that died to another one by itself. A message counts as sent when RabbitMQ says
# that it has it (on_celery/rabbitmq.py says how long that may take). Seconds until a send that hangs fails.
_of_rabbitmq = {"confirm_publish": True, "write_timeout": 4}
broker_transport_options = {
    **(_of_redis if _on_redis else _of_rabbitmq),
    # For Sentinel only: the name of the master's group, and the sentinels' own credentials.
    **(
        {"master_name": _on_redis.service, "sentinel_kwargs": {**_on_redis.sentinel, **_asked_once}}
        if _on_redis and _on_redis.service
        else {}
    ),
}
# TLS of RabbitMQ, and of a server that sentinels name; that of other servers is part of the URL.
broker_use_ssl = (_on_redis.tls if _on_redis else _on_rabbitmq.tls if _on_rabbitmq else None) or None
# Seconds between two signs of life, for RabbitMQ: a peer that is gone is noticed after two. Celery's default is 120.
broker_heartbeat = 20
broker_connection_timeout = 4
# A node that starts before Redis, or loses it, waits for it without end: a restart of Redis needs nobody's help.
broker_connection_retry_on_startup = True
broker_connection_retry = True
broker_connection_max_retries = None
# A task finishes while the broker is away. Late acknowledgement runs it again, which changes nothing.
worker_cancel_long_running_tasks_on_connection_loss = False

# --- messages ----------------------------------------------------------------------------------------------------

# JSON only: nothing that arrives is ever executed or unpickled.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"
event_serializer = "json"
# Nobody waits for a result: the truth is in Redis. Without a backend there is no clean-up task of Celery either.
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
    "workermon.list_statuses": {"queue": "workermon.collect"},
    "workermon.reconcile": {"queue": "workermon.collect"},
    "workermon.canary": {"queue": "workermon.collect"},
    "workermon.evaluate": {"queue": "workermon.evaluate"},
    "workermon.deliver": {"queue": "workermon.deliver"},
}
# A misspelt queue name is an error, not a new queue that nobody reads.
task_create_missing_queues = False
# 'expires' is set for each message: the interval for a collection, so that no backlog piles up, and half a minute for
# an evaluation or delivery (on_celery/dispatcher.py).
# If a message cannot be sent within a second or two, the sweep does its work later. The sender does not wait.
task_publish_retry = True
task_publish_retry_policy = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5}

# --- execution ---------------------------------------------------------------------------------------------------

# Acknowledged after the work, and given back when the process that did it is lost. Every task can be repeated.
task_acks_late = True
task_reject_on_worker_lost = True
# Each thread has one message and one more waits: messages are batches, and other nodes may be free.
worker_prefetch_multiplier = 1
# Seconds. Only the prefork pool enforces them; calls to AWS and to channels have limits of their own in every pool.
task_soft_time_limit = 100
task_time_limit = 120
# Collection waits for AWS (50–300 ms a call), so threads; '-P prefork -c 4' and '-P solo' work as well.
worker_pool = "threads"
worker_concurrency = 10
# Seconds. A prefork child that has not started by then is replaced. Importing boto3 on a busy machine takes a while.
worker_proc_alive_timeout = 15.0

# --- what others see ------------------------------------------------------------------------------------------

# Not Celery's defaults: 'inspect' and 'control' would reach the nodes of every application on the broker, and Flower
# would show their tasks.
control_exchange = _settings.CONTROL_EXCHANGE
event_exchange = event_queue_prefix = _settings.EVENT_EXCHANGE
# Flower and 'celery events' need these. Messages are batches, so events stay few.
worker_send_task_events = True
task_send_sent_event = True
# logs.py sets up logging, by the signal in on_celery/app.py. A library's print stays a print.
worker_hijack_root_logger = False
worker_redirect_stdouts = False
enable_utc = True
timezone = "UTC"

# --- beat --------------------------------------------------------------------------------------------------------

# RedBeat's scheduler, but it sends the due entries of one tick together. '-S' chooses another:
# 'celery -A workermon beat -S redbeat.RedBeatScheduler' runs the same entries. Inside a node use 'worker -B' without
# '-S', which means --statedb there.
beat_scheduler = "workermon.on_celery.scheduler:Scheduler"
# Seconds between two looks for due entries, if beat cannot hear of new ones (on_celery/changes.py), and between two
# tries of a standby. Shorter if intervals of a few seconds are allowed, as in the demo.
beat_max_loop_interval = 1.0 if _own.min_interval >= 10 else 0.2
# Seconds. A standby takes over that long after beat died, at most a loop later. At least five loops, or a slow tick
# loses the lock; while nothing is due our scheduler extends it each 2 s.
redbeat_lock_timeout = _settings.BEAT_LOCK_SECONDS
# Without credentials, because Celery and Flower show this URL as it is. They hide the password of the options.
redbeat_redis_url = _state.redbeat_url
# Without a word of its own it would take the broker's.
redbeat_redis_use_ssl = _state.tls or False
redbeat_redis_options = {
    **_state.redbeat_options,
    **({"sentinel_kwargs": {**_state.sentinel, **_asked_once}} if _state.service else {}),
    # Seconds. A hanging server ends beat, and the supervisor starts it again.
    "socket_timeout": 4,
    **({} if _state.path else {"socket_connect_timeout": 4}),
}
# Not RedBeat's default: on a shared database beat would run and delete the entries of other applications.
redbeat_key_prefix = _settings.REDBEAT_PREFIX
