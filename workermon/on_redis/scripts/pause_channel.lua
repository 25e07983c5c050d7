-- Let no message out to a channel until a time, unless it is paused for longer already.
local bucket = KEYS[1]       -- hash: paused
local paused_until = ARGV[1]
local lifetime = ARGV[2]     -- seconds

if (tonumber(redis.call('HGET', bucket, 'paused')) or 0) < tonumber(paused_until) then
  redis.call('HSET', bucket, 'paused', paused_until)
end
redis.call('EXPIRE', bucket, lifetime)
return 1
