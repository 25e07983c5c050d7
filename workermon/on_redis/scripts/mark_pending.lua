-- Mark a worker or a group as pending, so that its rules are evaluated. No effect if it was removed.
local worker    = KEYS[1]  -- hash: the worker, or what changed in the group
local pending   = KEYS[2]  -- zset: pending workers by the time they were marked
local worker_id = ARGV[1]
local at        = ARGV[2]

if redis.call('EXISTS', worker) == 1 then
  add(worker, 'seq', 1)
  redis.call('ZADD', pending, 'NX', at, worker_id)
end
return 1
