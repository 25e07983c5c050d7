-- Set fields of a worker. Returns 1, or 0 if this incarnation of the worker is gone.
local worker      = KEYS[1] -- hash: the worker
local incarnation = ARGV[1]
local fields_at   = 2       -- ARGV[fields_at], …: names and values, alternating

if redis.call('HGET', worker, 'incarnation') ~= incarnation then return 0 end
redis.call('HSET', worker, unpack(ARGV, fields_at))
return 1
