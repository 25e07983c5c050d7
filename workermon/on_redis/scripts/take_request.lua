-- KEYS: bucket. ARGV: capacity, rate, patience, lent for, lending, faster, slowest, trial, kept.
-- Times are in seconds; returns tokens, seconds to wait, and 1 where nobody answers there.
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local had = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'factor', 'lent', 'lent_until', 'silent_until')
local silent = tonumber(had[6])
if silent then
  if now < silent then return {0, tostring(silent - now), 1} end
  redis.call('HSET', KEYS[1], 'silent_until', string.format('%.6f', now + tonumber(ARGV[8])))
  redis.call('EXPIRE', KEYS[1], ARGV[9])
  return {1, '0', 1}
end
local passed = math.max(0, now - (tonumber(had[2]) or now))
local factor = math.min(1, (tonumber(had[3]) or 1) + passed * tonumber(ARGV[6]))
local speed = math.min(rate, math.max(rate * factor, tonumber(ARGV[7])))
local lent = tonumber(had[4]) or 0
if now > (tonumber(had[5]) or 0) then lent = 0 end
local top = math.max(1, capacity * factor - lent)
local tokens = math.min(top, (tonumber(had[1]) or capacity) + passed * speed)
local granted, wait = 0, 0
if tokens >= 1 then
  granted = 1
  local more = math.min(tonumber(ARGV[5]) - 1, math.floor(capacity / 2 - lent))
  if factor == 1 and more > 0 and tokens - more > capacity / 2 then
    granted = 1 + more
    lent = lent + more
    redis.call('HSET', KEYS[1], 'lent', lent, 'lent_until', string.format('%.6f', now + tonumber(ARGV[4])))
  end
else
  wait = (1 - tokens) / speed
  if wait <= tonumber(ARGV[3]) then granted = 1 end
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - granted), 'at', string.format('%.6f', now),
  'factor', string.format('%.6f', factor))
redis.call('EXPIRE', KEYS[1], ARGV[9])
return {granted, string.format('%.6f', wait), 0}
