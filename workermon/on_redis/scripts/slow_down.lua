-- KEYS: bucket. ARGV: slower, at most each, faster, kept.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'factor', 'slowed')
if now - (tonumber(had[4]) or 0) < tonumber(ARGV[2]) then return 0 end
local passed = math.max(0, now - (tonumber(had[2]) or now))
local factor = math.min(1, (tonumber(had[3]) or 1) + passed * tonumber(ARGV[3])) * tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', math.min(tonumber(had[1]) or 0, 0)),
  'at', string.format('%.6f', now), 'factor', string.format('%.6f', math.max(factor, 0.001)),
  'slowed', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
