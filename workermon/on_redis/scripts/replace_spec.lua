-- Replace the set-up of a worker of the fleet. Returns 1, or 0 if it has changed, or the worker is not in the fleet.
local workers     = KEYS[1] -- zset: the fleet's ids
local worker      = KEYS[2] -- hash: the worker
local worker_id   = ARGV[1]
local spec_before = ARGV[2] -- '' for none
local incarnation = ARGV[3]
local spec        = ARGV[4]

if not redis.call('ZSCORE', workers, worker_id) then return 0 end
if (redis.call('HGET', worker, 'spec') or '') ~= spec_before then return 0 end
redis.call('HSET', worker, 'incarnation', incarnation, 'spec', spec)
return 1
