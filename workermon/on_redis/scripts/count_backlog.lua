-- Return how many notifications wait, without the canary's.
local outbox = KEYS[1]        -- zset: queues by the time of the next try
local queue_prefix = ARGV[1]  -- list: notifications
local canary = ARGV[2]        -- name of the canary's queue

local waiting = 0
for _, name in ipairs(redis.call('ZRANGE', outbox, 0, -1)) do
  if name ~= canary then waiting = waiting + redis.call('LLEN', queue_prefix .. name) end
end
return waiting
