-- Record that a request got no answer. A second one within some time suspends the API for a while.
-- Returns 1 if it is now suspended. Uses the server's clock; times are in seconds.
local bucket = KEYS[1]             -- hash: silent_at, silent_until
local suspension = tonumber(ARGV[1])
local failure_window = tonumber(ARGV[2])
local lifetime = ARGV[3]

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local silent_at, silent_until = unpack(redis.call('HMGET', bucket, 'silent_at', 'silent_until'))
redis.call('HSET', bucket, 'silent_at', string.format('%.6f', now))
redis.call('EXPIRE', bucket, lifetime)
if not silent_until and math.abs(now - (tonumber(silent_at) or 0)) > failure_window then return 0 end
redis.call('HSET', bucket, 'silent_until', string.format('%.6f', now + suspension))
return 1
