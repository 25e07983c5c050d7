-- Take a token for one message to a channel. Returns the seconds to wait; 0 if it may be sent now.
-- Refused senders get increasing waits, because otherwise all of them would ask again at once.
local bucket = KEYS[1]                -- hash: tokens, at, paused, since, critical, others
local capacity = tonumber(ARGV[1])
local rate = tonumber(ARGV[2])        -- tokens a second
local critical = ARGV[3] == '1'       -- the lower half of the bucket is for critical messages only
local now = tonumber(ARGV[4])
local lifetime = ARGV[5]
local longest_wait = tonumber(ARGV[6])
local count_window = tonumber(ARGV[7])    -- seconds after which the count of refused senders starts again at 0
local max_lead = tonumber(ARGV[8])    -- seconds

local refused_field = critical and 'critical' or 'others'
local tokens, at, paused, began, since, refused =
  unpack(redis.call('HMGET', bucket, 'tokens', 'at', 'paused', 'pause_began', 'since', refused_field))
paused = tonumber(paused)
-- A pause that began in the future was written by a clock that was ahead.
local is_ahead = (tonumber(began or '') or 0) - now > max_lead
if paused and now < paused and not is_ahead then return string.format('%.3f', paused - now) end
tokens = math.min(capacity, (tonumber(tokens) or capacity) + math.max(0, now - (tonumber(at) or now)) * rate)
refused = tonumber(refused) or 0
if math.abs(now - (tonumber(since) or 0)) > count_window then
  redis.call('HDEL', bucket, 'critical', 'others')
  redis.call('HSET', bucket, 'since', string.format('%.3f', now))
  refused = 0
end
local needed = critical and 1 or 1 + math.floor(capacity / 2)
local wait = 0
if tokens >= needed then
  tokens = tokens - 1
else
  wait = math.max(0.001, math.min(longest_wait, (needed - tokens + refused) / rate))
  redis.call('HSET', bucket, refused_field, refused + 1)
end
redis.call('HSET', bucket, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', bucket, lifetime)
return string.format('%.3f', wait)
