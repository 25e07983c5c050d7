-- KEYS: bucket. ARGV: how long nobody is let out, within how long the second silence follows the first, kept.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local had = redis.call('HMGET', KEYS[1], 'silent_at', 'silent_until')
redis.call('HSET', KEYS[1], 'silent_at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[3])
if not had[2] and now - (tonumber(had[1]) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'silent_until', string.format('%.6f', now + tonumber(ARGV[1])))
return 1
