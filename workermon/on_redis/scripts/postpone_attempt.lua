-- Undo a claim. Returns 1, or 0 if another sender has claimed the queue since.
local outbox = KEYS[1]   -- zset: queues by the time of the next try
local state = KEYS[2]    -- hash: fence and attempts of the head
local lease = KEYS[3]    -- string: the sender of the head
local name = ARGV[1]     -- of the queue
local fence = ARGV[2]
local retry_at = ARGV[3]
local wait = ARGV[4]     -- seconds from now to retry_at

if redis.call('HGET', state, 'fence') ~= fence then return 0 end
redis.call('DEL', lease)
redis.call('HSET', state, 'fence', '', 'wait', wait)
add(state, 'attempts', -1)
redis.call('ZADD', outbox, retry_at, name)
return 1
