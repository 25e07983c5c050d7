-- Mark every worker as pending.
local workers = KEYS[1]       -- zset: the fleet's ids
local pending = KEYS[2]       -- zset: workers to be evaluated by the time they were marked
local at = ARGV[1]
local worker_prefix = ARGV[2]

for _, id in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
  add(worker_prefix .. id, 'seq', 1)
  redis.call('ZADD', pending, 'NX', at, id)
end
return 1
