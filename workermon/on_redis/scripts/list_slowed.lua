-- KEYS: the set of buckets. ARGV: faster, prefix. Returns name, factor now, and 1 where silent, of each that is slowed.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local had = redis.call('HMGET', ARGV[2] .. name, 'at', 'factor', 'silent_until')
  if not had[1] and not had[3] then
    redis.call('SREM', KEYS[1], name)
  else
    local passed = math.max(0, now - (tonumber(had[1]) or now))
    local factor = math.min(1, (tonumber(had[2]) or 1) + passed * tonumber(ARGV[1]))
    if had[3] or factor < 1 then
      found[#found + 1] = {name, string.format('%.3f', factor), had[3] and 1 or 0}
    else
      redis.call('SREM', KEYS[1], name)
    end
  end
end
return found
