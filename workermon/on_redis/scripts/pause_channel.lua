-- Send no message to a channel until a given time, unless it is already paused for longer.
local bucket = KEYS[1]       -- hash: paused, and when the pause began
local now = ARGV[1]
local paused_until = ARGV[2]
local lifetime = ARGV[3]     -- seconds
local max_lead = tonumber(ARGV[4])

local paused, began = unpack(redis.call('HMGET', bucket, 'paused', 'pause_began'))
-- A pause that began in the future was written by a clock that was ahead.
local counts = (tonumber(began or '') or 0) - tonumber(now) <= max_lead
if not counts or (tonumber(paused or '') or 0) < tonumber(paused_until) then
  redis.call('HSET', bucket, 'paused', paused_until, 'pause_began', now)
end
redis.call('EXPIRE', bucket, lifetime)
return 1
