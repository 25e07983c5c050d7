-- Take a token for one request to AWS, or reserve the next one and return how long to wait for it.
-- Returns the number of tokens granted (0: refused), the seconds to wait, and 1 if the API does not answer. A full
-- bucket lends more than one, so that the next requests of this process need no call.
-- Uses the server's clock; times are in seconds.
local bucket = KEYS[1]              -- hash: tokens, at, factor, lent, lent_until, silent_until
local capacity = tonumber(ARGV[1])
local rate = tonumber(ARGV[2])      -- tokens a second
local patience = tonumber(ARGV[3])  -- how long the caller may wait
local lent_for = tonumber(ARGV[4])
local max_lent = tonumber(ARGV[5]) -- tokens, the caller's included
local recovery = tonumber(ARGV[6])  -- share of the rate regained each second
local slowest = tonumber(ARGV[7])   -- tokens a second
local trial = tonumber(ARGV[8])     -- seconds that one request may test whether the API answers again
local lifetime = ARGV[9]
local max_lead = tonumber(ARGV[10]) -- seconds that a time may lie ahead; more means that a clock was set back

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local tokens, at, factor, lent, lent_until, silent_until =
  unpack(redis.call('HMGET', bucket, 'tokens', 'at', 'factor', 'lent', 'lent_until', 'silent_until'))
silent_until = tonumber(silent_until)
if silent_until then
  if now < silent_until and silent_until - now <= trial + max_lead then return {0, tostring(silent_until - now), 1} end
  redis.call('HSET', bucket, 'silent_until', string.format('%.6f', now + trial))
  redis.call('EXPIRE', bucket, lifetime)
  return {1, '0', 1}
end

local elapsed = math.max(0, now - (tonumber(at) or now))
factor = math.min(1, (tonumber(factor) or 1) + elapsed * recovery)
local current_rate = math.min(rate, math.max(rate * factor, slowest))
lent = tonumber(lent) or 0
lent_until = tonumber(lent_until) or 0
if now > lent_until or lent_until - now > lent_for + max_lead then lent = 0 end
-- Lent tokens reduce the capacity, so that all processes together never exceed the bucket's limit.
local available = math.max(1, capacity * factor - lent)
tokens = math.min(available, (tonumber(tokens) or capacity) + elapsed * current_rate)

local granted, wait = 0, 0
if tokens >= 1 then
  granted = 1
  local more = math.min(max_lent - 1, math.floor(capacity / 2 - lent))
  if factor == 1 and more > 0 and tokens - more > capacity / 2 then
    granted = 1 + more
    redis.call('HSET', bucket, 'lent', lent + more, 'lent_until', string.format('%.6f', now + lent_for))
  end
else
  wait = (1 - tokens) / current_rate
  if wait <= patience then granted = 1 end
end
redis.call('HSET', bucket, 'tokens', string.format('%.6f', tokens - granted), 'at', string.format('%.6f', now),
  'factor', string.format('%.6f', factor))
redis.call('EXPIRE', bucket, lifetime)
return {granted, string.format('%.6f', wait), 0}
