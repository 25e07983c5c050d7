-- Mark a worker as pending: its rules are to be evaluated. A removed worker is left alone.
local worker    = KEYS[1]  -- hash: the worker
local pending   = KEYS[2]  -- zset: pending workers by the time they were marked
local worker_id = ARGV[1]
local at        = ARGV[2]

if redis.call('EXISTS', worker) == 1 then
  add(worker, 'seq', 1)
  redis.call('ZADD', pending, 'NX', at, worker_id)
end
return 1
