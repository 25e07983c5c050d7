-- KEYS: bucket. ARGV: capacity, rate, 1 for a critical, now, kept, longest, lately. Returns the seconds to wait.
-- Those who are refused are told to come back one after another, for else all of them would ask at once.
local capacity, rate, critical = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local now = tonumber(ARGV[4])
local field = critical and 'critical' or 'others'
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'paused', 'since', field)
local paused = tonumber(had[3])
if paused and now < paused then return string.format('%.3f', paused - now) end
local tokens = math.min(capacity, (tonumber(had[1]) or capacity) + math.max(0, now - (tonumber(had[2]) or now)) * rate)
local need = critical and 1 or 1 + math.floor(capacity / 2)
local refused = tonumber(had[5]) or 0
if now - (tonumber(had[4]) or 0) > tonumber(ARGV[7]) then
  redis.call('HDEL', KEYS[1], 'critical', 'others')
  redis.call('HSET', KEYS[1], 'since', string.format('%.3f', now))
  refused = 0
end
local wait = 0
if tokens >= need then
  tokens = tokens - 1
else
  wait = math.max(0.001, math.min(tonumber(ARGV[6]), (need - tokens + refused) / rate))
  redis.call('HSET', KEYS[1], field, refused + 1)
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return string.format('%.3f', wait)
