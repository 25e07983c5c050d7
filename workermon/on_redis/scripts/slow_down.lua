-- Lower the rate of a bucket after AWS throttled a request, and empty it.
-- Returns 1, or 0 if it was lowered a moment ago. Uses the server's clock; times are in seconds.
local bucket = KEYS[1]              -- hash: tokens, at, factor, slowed
local slower = tonumber(ARGV[1])    -- factor for the rate
local pause = tonumber(ARGV[2])     -- seconds between two reductions, at least
local recovery = tonumber(ARGV[3])  -- share of the rate regained each second
local lifetime = ARGV[4]

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local tokens, at, factor, slowed = unpack(redis.call('HMGET', bucket, 'tokens', 'at', 'factor', 'slowed'))
if math.abs(now - (tonumber(slowed) or 0)) < pause then return 0 end
local elapsed = math.max(0, now - (tonumber(at) or now))
factor = math.min(1, (tonumber(factor) or 1) + elapsed * recovery) * slower
redis.call('HSET', bucket, 'tokens', string.format('%.6f', math.min(tonumber(tokens) or 0, 0)),
  'at', string.format('%.6f', now), 'factor', string.format('%.6f', math.max(factor, 0.001)),
  'slowed', string.format('%.6f', now))
redis.call('EXPIRE', bucket, lifetime)
return 1
