-- Return the slowed buckets: name, present share of the full rate, and 1 if the API does not answer.
-- Buckets that have recovered are removed from the list.
local slowed_names = KEYS[1]       -- set: names of buckets
local recovery = tonumber(ARGV[1]) -- share of the rate that is regained each second
local bucket_prefix = ARGV[2]      -- of the buckets' keys

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local slowed = {}
for _, name in ipairs(redis.call('SMEMBERS', slowed_names)) do
  local at, factor, silent_until = unpack(redis.call('HMGET', bucket_prefix .. name, 'at', 'factor', 'silent_until'))
  local elapsed = math.max(0, now - (tonumber(at) or now))
  local share = math.min(1, (tonumber(factor) or 1) + elapsed * recovery)
  local expired = not at and not silent_until
  if not expired and (silent_until or share < 1) then
    slowed[#slowed + 1] = {name, string.format('%.3f', share), silent_until and 1 or 0}
  else
    redis.call('SREM', slowed_names, name)
  end
end
return slowed
