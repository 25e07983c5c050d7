-- Queue the canary's notification. Returns 1, or 0 if the last one is not delivered yet.
local outbox = KEYS[1]        -- zset: queues by the time of the next try
local queues = KEYS[2]        -- set: the canary's queues
local queue = KEYS[3]         -- list: the canary's notification
local name = ARGV[1]          -- of the queue
local notification = ARGV[2]
local at = ARGV[3]

if redis.call('EXISTS', queue) == 1 then return 0 end
redis.call('RPUSH', queue, notification)
redis.call('ZADD', outbox, 'NX', at, name)
redis.call('SADD', queues, name)
return 1
